"""Surfaces for synthetic photographs: large noise fields that every image cuts its patches from.

The fields are the same in every process and for every seed; what varies per image is where a patch
is cut. Nothing here knows what a die or a bond is.
"""

from __future__ import annotations

import functools
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Surface = Literal["white", "grain", "mottled", "cloud", "brushed", "drawn"]
Floats = NDArray[np.float32]

_SIDE = 1280
_SPREADS: dict[Surface, tuple[float, float]] = {
    # Gaussian spread in pixels along x and y.
    "white": (0.0, 0.0),
    "grain": (1.1, 1.1),
    "mottled": (4.0, 4.0),
    "cloud": (13.0, 13.0),
    "brushed": (22.0, 0.8),
    "drawn": (1.2, 28.0),
}


@functools.cache
def _field(surface: Surface) -> Floats:
    """(1280, 1280) of mean 0 and standard deviation 1."""
    rng = np.random.default_rng([2003, list(_SPREADS).index(surface)])
    field = rng.standard_normal((_SIDE, _SIDE), np.float32)
    spread_x, spread_y = _SPREADS[surface]
    if spread_x:
        field = np.asarray(
            cv2.GaussianBlur(
                field, (0, 0), sigmaX=spread_x, sigmaY=spread_y, borderType=cv2.BORDER_REFLECT
            ),
            np.float32,
        )
    return np.asarray((field - field.mean()) / field.std(), np.float32)


def patch(surface: Surface, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """A patch (rows, columns), at most 1280 a side, of mean near 0 and standard deviation near 1;
    a part of the shared field, not to be written to."""
    rows, columns = shape
    top, left = rng.integers(0, _SIDE - rows + 1), rng.integers(0, _SIDE - columns + 1)
    return _field(surface)[top : top + rows, left : left + columns]


def roughen(area: Floats, surface: Surface, amount: float, rng: np.random.Generator) -> None:
    """Add a patch of ``amount`` grey levels' standard deviation, in place."""
    if area.size:
        shape = area.shape[0], area.shape[1]
        cv2.scaleAdd(patch(surface, shape, rng), amount, area, dst=area)
