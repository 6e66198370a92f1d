"""The settings of a study, and which of them must not change when it resumes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_qc.bundle.dies import CHALLENGE_DIES, read_dies
from edge_qc.errors import UsageError
from edge_qc.inspection.view import Interpolation
from edge_qc_export.data.dataset import Sample
from edge_qc_export.data.view_size import size_of_crops
from edge_qc_export.learn.networks import NETWORKS, TRUNKS
from edge_qc_export.whole_file import require_writable, write_whole

SETTINGS = "settings.json"


@dataclass(frozen=True)
class StudySettings:
    """data, out: the data set, the study's folder. size: as in ``TrainingConfig``. weights: of
    the trunks: ``imagenet``, ``none``, a file, or ``NETWORK=`` before any of these. only: names of
    configurations, none for all. dies, costs: JSON files, None for the challenge's. Every
    configuration trains ``epochs`` epochs, as the report's did, and keeps the best of them."""

    data: Path
    out: Path
    size: tuple[int, int] | None = None
    epochs: int = 10
    weights: tuple[str, ...] = ("imagenet",)
    only: tuple[str, ...] = ()
    dies: Path | None = None
    costs: Path | None = None
    interpolation: Interpolation = "area"
    batch: int = 32
    seed: int = 0
    threads: int | None = None
    device: str | None = None

    def checked(self) -> StudySettings:
        """The same with its size chosen. Raises UsageError for several processes and for weights of
        no network."""
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UsageError(
                "study: is one process; under torchrun train the configurations one by one with "
                "'edge-qc train'"
            )
        for entry in self.weights:
            network = _network_of(entry)
            if network is not None and network not in TRUNKS:
                raise UsageError(
                    f"weights {entry}: {network} starts from nothing; wanted one of "
                    f"{', '.join(TRUNKS)}"
                )
        if self.size is not None:
            return self
        dies = CHALLENGE_DIES if self.dies is None else read_dies(self.dies)
        return replace(self, size=size_of_crops(dies))

    @property
    def view_size(self) -> tuple[int, int]:
        """(rows, columns) of the view, once ``checked`` has chosen it."""
        assert self.size is not None
        return self.size

    def weights_of(self, network: str) -> str | None:
        """What ``TrainingConfig.weights`` takes for a network; None for a CNN."""
        if network not in TRUNKS:
            return None
        plain = [entry for entry in self.weights if _network_of(entry) is None]
        own = [e.partition("=")[2] for e in self.weights if _network_of(e) == network]
        return (own or plain or ["imagenet"])[-1]

    def fingerprint(self, train: Sequence[Sample], measured: Sequence[Sample]) -> dict[str, Any]:
        """What makes two studies the same, for ``settings.json``."""
        return {
            "data": str(self.data.resolve()),
            "pictures": _digest(train) + _digest(measured),
            "size": list(self.view_size),
            "interpolation": self.interpolation,
            "epochs": self.epochs,
            "weights": sorted(self.weights),
            "batch": self.batch,
            "seed": self.seed,
            "dies": _content(self.dies),
            "costs": _content(self.costs),
        }

    def require_free(self, fingerprint: dict[str, Any]) -> None:
        """Raises UsageError if the folder holds another study, or cannot be written."""
        file = self.out / SETTINGS
        require_writable(self.out, f"study {self.out}")
        try:
            if not file.exists():
                return
            before = json.loads(file.read_text(encoding="utf-8"))
            changed = [k for k, value in fingerprint.items() if before.get(k) != value]
        except (OSError, ValueError, AttributeError) as error:
            raise UsageError(f"study {self.out}: is not a study's folder ({error})") from error
        if changed:
            differences = ", ".join(f"{k} {before.get(k)!r} -> {fingerprint[k]!r}" for k in changed)
            raise UsageError(
                f"study {self.out} was started with other settings: {differences}. Name another "
                "folder with --out, or use the same settings"
            )

    def claim(self, fingerprint: dict[str, Any]) -> None:
        """Take the free folder for this study, once nothing more can be wrong with the call: other
        settings are refused from then on. Raises EdgeQCError if the disk refuses."""
        file = self.out / SETTINGS
        if not file.exists():
            write_whole(file, (json.dumps(fingerprint, indent=1) + "\n").encode())


def _network_of(entry: str) -> str | None:
    name, equals, _ = entry.partition("=")
    return name if equals and name in NETWORKS else None


def _content(file: Path | None) -> str | None:
    try:
        return None if file is None else file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read ({error})") from error


def _digest(samples: Sequence[Sample]) -> str:
    rows = [[sample.filename, sample.die, sample.window, sample.label] for sample in samples]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
