"""What a training is told, and what of it can be refused before anything is read."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_qc.errors import UsageError
from edge_qc.inspection.view import Interpolation
from edge_qc_export.learn import checkpoints
from edge_qc_export.learn.losses import LOSSES
from edge_qc_export.learn.networks import NETWORKS

_FREE_TO_CHANGE = frozenset(
    ["out", "epochs", "resume", "threads", "device", "cache", "cache_folder", "patience", "split"]
)


@dataclass(frozen=True)
class TrainingConfig:
    """What a training is told.

    data: the data set; out: the run folder. dies, costs, loss_costs: JSON files; None takes the
    challenge's dies and pattern of costs, and ``costs`` for the cost loss. size: (rows, columns) of
    the view. split: a file to reuse. unfreeze, dropout, weights: see ``build_network``; weights
    None is imagenet for a ResNet and none for a CNN. patience: epochs without a better one (see
    ``epochs``) before training stops; None never. augment: alter views at random
    (``augmentation``); the frozen trunk is then run every epoch. cache: keep a frozen trunk's
    activations for later epochs. cache_folder: where these are, and where views are kept
    for other runs to find; None: in the run folder, until the run is done.
    """

    data: Path
    out: Path
    network: str = "cnn-basic"
    epochs: int = 10
    dies: Path | None = None
    costs: Path | None = None
    loss_costs: Path | None = None
    size: tuple[int, int] = (224, 224)
    interpolation: Interpolation = "area"
    split: Path | None = None
    seed: int = 0
    loss: str = "cross-entropy"
    unfreeze: int | None = None
    dropout: float | None = None
    weights: str | None = None
    learning_rate: float = 1e-3
    batch: int = 32
    patience: int | None = 5
    augment: bool = False
    cache: bool = True
    cache_folder: Path | None = None
    resume: bool = False
    threads: int | None = None
    device: str | None = None

    @property
    def own_cache(self) -> Path:
        """The run's own folder for what is needed until it is done."""
        return self.out / "cache"

    def checked(self) -> TrainingConfig:
        """The same with its weights chosen. Raises UsageError for what cannot be."""
        for name, value, least in (
            ("epochs", self.epochs, 1),
            ("batch", self.batch, 2),
            ("size", min(self.size), 8),
            ("patience", self.patience, 1),
            ("threads", self.threads, 1),
        ):
            if value is not None and value < least:
                raise UsageError(f"{name} {value}: wanted at least {least}")
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"learning rate {self.learning_rate}: wanted a number above 0")
        for name, choice, known in (
            ("network", self.network, NETWORKS),
            ("loss", self.loss, LOSSES),
        ):
            if choice not in known:
                raise UsageError(f"{name} {choice!r} is unknown; wanted one of {', '.join(known)}")
        taken = [n for n in (checkpoints.RUN, checkpoints.RESUME) if (self.out / n).exists()]
        if taken and not self.resume:
            raise UsageError(
                f"run {self.out}: holds {taken[0]} already. Name another folder with --out, go on "
                "with --resume, or delete it"
            )
        weights = self.weights or ("imagenet" if self.network.startswith("resnet") else "none")
        return replace(self, weights=weights)

    def fixed_settings(self) -> dict[str, Any]:
        """What must be the same to resume, as it is read back from JSON."""
        document = {n: v for n, v in vars(self).items() if n not in _FREE_TO_CHANGE}
        settings: dict[str, Any] = json.loads(json.dumps(document, default=str))
        return settings
