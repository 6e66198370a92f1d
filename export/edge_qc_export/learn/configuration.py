"""The settings of a training, and the checks that need no data."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from edge_qc.bundle.dies import CHALLENGE_DIES, read_dies
from edge_qc.errors import UsageError
from edge_qc.inspection.view import Interpolation
from edge_qc_export.data.sessions import RULES, Rule
from edge_qc_export.data.view_size import size_of_crops
from edge_qc_export.learn import checkpoints
from edge_qc_export.learn.alignment import Bounds
from edge_qc_export.learn.losses import LOSSES
from edge_qc_export.learn.networks import DEFAULT_NETWORK, NETWORKS, TRUNKS, build_network
from edge_qc_export.whole_file import require_utf8

LITE0_BLOCKS = 5
"""Of EfficientNet-Lite0 that learn unless told otherwise: chosen by table (docs/decision.md). PaDiM
reads the blocks before them."""

_FREE_TO_CHANGE = frozenset(
    ["out", "epochs", "resume", "threads", "device", "cache", "cache_folder", "patience", "split"]
)


@dataclass(frozen=True)
class TrainingConfig:
    """The settings of a training.

    data: the data set; out: the run folder. dies, costs, loss_costs: JSON files; None takes the
    challenge's dies and pattern of costs, and ``costs`` for the cost loss. align: parts are found
    first, within these bounds; None takes them to lie where the die table says. size: (rows,
    columns) of the view; None for that of the dies' crops (``view_size``). split: a file to reuse.
    session: where a picture's is read from. unfreeze, dropout, weights: see ``build_network``;
    weights None is imagenet for a trunk and none for a CNN; unfreeze None is ``LITE0_BLOCKS`` for
    an EfficientNet that starts from weights, 0 if there is nothing but GOOD. patience: epochs
    without a better one (see ``epochs``) before training stops; None never. augment: alter views at
    random (``augmentation``); the frozen trunk is then run every epoch. cache: keep a frozen
    trunk's activations for later epochs. cache_folder: where these are, and where views are kept
    for other runs to find; None: in the run folder, until the run is done.
    """

    data: Path
    out: Path
    network: str = DEFAULT_NETWORK
    epochs: int = 10
    dies: Path | None = None
    costs: Path | None = None
    loss_costs: Path | None = None
    align: Bounds | None = None
    size: tuple[int, int] | None = None
    interpolation: Interpolation = "area"
    split: Path | None = None
    session: Rule = "column"
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
    def view_size(self) -> tuple[int, int]:
        """(rows, columns) of the view, once ``checked`` has chosen it."""
        assert self.size is not None
        return self.size

    @property
    def own_cache(self) -> Path:
        """The run's own folder for what is needed until it is done."""
        return self.out / "cache"

    def checked(self) -> TrainingConfig:
        """The same with its size and weights chosen. Raises UsageError for what cannot
        be, DataError for a die table that cannot be read."""
        for name, value, least in (
            ("epochs", self.epochs, 1),
            ("batch", self.batch, 2),
            ("size", None if self.size is None else min(self.size), 8),
            ("patience", self.patience, 1),
            ("threads", self.threads, 1),
            ("seed", self.seed, 0),
        ):
            if value is not None and value < least:
                never = ", or 0 for never" if name == "patience" else ""
                raise UsageError(f"{name} {value}: wanted at least {least}{never}")
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"learning rate {self.learning_rate}: wanted a number above 0")
        for name, choice, known in (
            ("network", self.network, NETWORKS),
            ("loss", self.loss, LOSSES),
            ("session", self.session, RULES),
        ):
            if choice not in known:
                raise UsageError(f"{name} {choice!r} is unknown; wanted one of {', '.join(known)}")
        if self.network not in TRUNKS and self.weights not in (None, "none"):
            raise UsageError(
                f"weights {self.weights!r}: {self.network} starts from random numbers. Leave "
                f"--weights out, or take a network with a trunk: {', '.join(TRUNKS)}"
            )
        require_utf8(self.out, f"run {self.out}")
        if self.out.exists() and not self.out.is_dir():
            raise UsageError(f"run {self.out}: is a file. Name a folder with --out")
        taken = [n for n in (checkpoints.RUN, checkpoints.RESUME) if (self.out / n).exists()]
        if taken and not self.resume:
            raise UsageError(
                f"run {self.out}: holds {taken[0]} already. Name another folder with --out, go on "
                "with --resume, or delete it"
            )
        if self.size is None:
            dies = CHALLENGE_DIES if self.dies is None else read_dies(self.dies)
            return replace(self, size=size_of_crops(dies)).checked()
        weights = self.weights or ("imagenet" if self.network in TRUNKS else "none")
        with torch.device("meta"):  # no numbers, but all that cannot be is found before the images
            build_network(self.network, 2, self.size, unfreeze=self.unfreeze, dropout=self.dropout)
        return replace(self, weights=weights)

    def learning_of(self, classes: int) -> TrainingConfig:
        """The same with ``unfreeze`` chosen for data of so many classes."""
        pretrained = self.network == DEFAULT_NETWORK and self.weights != "none"
        if self.unfreeze is not None or not pretrained:
            return self
        return replace(self, unfreeze=LITE0_BLOCKS if classes > 1 else 0)

    def fixed_settings(self) -> dict[str, Any]:
        """What must be the same to resume, as it is read back from JSON."""
        document = {n: v for n, v in vars(self).items() if n not in _FREE_TO_CHANGE}
        settings: dict[str, Any] = json.loads(json.dumps(document, default=str))
        return settings
