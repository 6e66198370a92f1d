"""A camera's reference: how its pictures look in a normal period, and how that is learned and
stored.

``monitoring`` compares pictures with it.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from edge_qc.camera.picture import Picture, place_in
from edge_qc.monitoring.control_chart import Baseline

log = logging.getLogger(__name__)

FIGURES = ("brightness", "sharpness", "right", "down", "likeness", "drift")

_ALIKE = 0.5
"""Below this correlation with the reference a picture's shift is not defined."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The reference of one camera and die under one bundle. baselines: by figure; brightness and
    sharpness are logarithms."""

    bundle_id: str
    small: NDArray[np.float32]
    baselines: Mapping[str, Baseline]

    def keep(self, file: Path) -> None:
        """Raises OSError."""
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        with part.open("wb") as stream:
            np.savez(
                stream,
                bundle_id=np.array(self.bundle_id),
                small=self.small,
                figures=np.array([dataclasses.astuple(self.baselines[n]) for n in FIGURES]),
            )
        part.replace(file)

    @classmethod
    def read(cls, file: Path, bundle_id: str) -> Reference | None:
        """Return the stored reference; None if there is none for this bundle."""
        try:
            with np.load(file, allow_pickle=False) as arrays:
                if str(arrays["bundle_id"]) != bundle_id:
                    return None
                baselines = {
                    name: Baseline(mean, spread, int(count))
                    for name, (mean, spread, count) in zip(
                        FIGURES, arrays["figures"].tolist(), strict=True
                    )
                }
                return cls(bundle_id, arrays["small"], baselines)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile) as error:
            log.warning("%s: not a readable reference, so it is learned again: %s", file, error)
            return None


class Learner:
    """Collects good frames for a reference."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._sum: NDArray[np.float32] | None = None
        self._pictures = 0
        self._small: NDArray[np.float32] | None = None
        self._values: dict[str, list[float]] = {name: [] for name in FIGURES}

    def add(self, picture: Picture, drift: float) -> None:
        figures = figures_of(picture, self._small) | {"drift": drift}
        for name, value in figures.items():
            self._values[name].append(value)
        self._pictures += 1
        if self._small is None:
            self._sum = picture.small if self._sum is None else self._sum + picture.small
            if self._pictures >= self._count // 2:
                self._small = self._sum / np.float32(self._pictures)

    def learnt(self, bundle_id: str) -> Reference | None:
        if self._small is None or self._pictures < self._count:
            return None
        enough = self._count // 4
        # If parts lie or look different each time, a shift is not defined.
        baselines = {
            name: Baseline.of(values) if len(values) >= enough else Baseline(0.0, math.inf, 1)
            for name, values in self._values.items()
        }
        return Reference(bundle_id, self._small, baselines)


def figures_of(picture: Picture, reference: NDArray[np.float32] | None) -> dict[str, float]:
    """The figures of one picture; without its shift if there is no reference yet, or the picture
    does not resemble it."""
    figures = {
        "brightness": math.log(max(picture.brightness, 1e-3)),
        "sharpness": math.log(max(picture.sharpness, 1e-6)),
    }
    if reference is not None:
        place = place_in(picture.small, reference)
        figures["likeness"] = place.likeness
        if place.likeness > _ALIKE:
            figures["right"], figures["down"] = place.right, place.down
    return figures
