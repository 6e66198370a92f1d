"""The size of the view where nobody names one: of the crop's own shape.

A band squeezed into a square loses what tells one class from another, so the default keeps the
shape of the die table's crops.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

from edge_qc.bundle.dies import Die

STEP = 32
"""Height and width are multiples of it: networks halve them five times."""

_PIXELS = 320 * 96
"""What two cores train on and an Orin judges in milliseconds; larger crops are reduced to it."""
_FEWEST_PIXELS = 96 * 96
"""Smaller crops are enlarged to it: ImageNet's trunks see nothing in less."""
_LONGEST = 32
"""Of a side, in steps."""


def size_of_crops(dies: Mapping[str, Die]) -> tuple[int, int]:
    """(rows, columns) for the crops of a die table: near the shape of the middle one, and near its
    number of pixels within limits."""
    crops = [_crop(die) for die in dies.values()]
    aspect = statistics.median_low(rows / columns for rows, columns in crops)
    pixels = statistics.median_low(rows * columns for rows, columns in crops)
    wanted = min(max(pixels, _FEWEST_PIXELS), _PIXELS)

    def distance(size: tuple[int, int]) -> tuple[float, float, int]:
        rows, columns = size
        shape = math.log(rows / columns / aspect)
        room = math.log(rows * columns / wanted)
        return round(shape**2 + room**2, 9), abs(shape), -rows * columns

    sides = [STEP * steps for steps in range(1, _LONGEST + 1)]
    return min(((rows, columns) for rows in sides for columns in sides), key=distance)


def _crop(die: Die) -> tuple[int, int]:
    """Rows and columns of a die's crop, in the photograph's pixels."""
    if die.box is not None:
        left, upper, right, lower = die.box
        return lower - upper, right - left
    assert die.center is not None
    return die.center[1], die.center[0]
