"""Where things lie on a synthetic die: the four layouts, and one photograph's geometry.

Band coordinates are the pixels of the die's box in the turned canvas, x across and y along the
bond, so that a band drawn upright comes out upright wherever the die table is used. Frame
coordinates are the photograph's. Drawing lives in ``backdrop`` and ``bond``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.dies import CHALLENGE_DIES
from edge_qc.errors import UsageError
from edge_qc.inspection.view import crop_box, view

Resolution = tuple[int, int]
"""Width and height of a photograph, pixels."""

SMALL: Resolution = (540, 630)
LARGE: Resolution = (720, 840)
RESOLUTIONS = (SMALL, LARGE)


@dataclass(frozen=True, slots=True)
class Layout:
    """How one die and its surroundings are made.

    chip_on_top: the chip lies at the upper end of the upright band. quarter_turns: counter-
    clockwise turns of a chip that lies below its edge, until it lies as in the photograph.
    Tones are grey levels. wire: half the wire's width; tilt: how far the camera's slant moves a
    full arch sideways; neighbours: where other bonds run, all pixels across the band.
    """

    chip_on_top: bool
    quarter_turns: int
    post: float
    paddle: float
    pad: float
    passivation: float
    wire: float
    tilt: float
    neighbours: tuple[float, ...]
    brushed: bool
    second_runner: bool
    pad_stripes: float
    native: Resolution


LAYOUTS: Mapping[str, Layout] = {
    "Die01": Layout(False, 0, 150, 112, 172, 92, 17, 15, (205,), True, False, 0, SMALL),
    "Die02": Layout(True, 2, 118, 138, 158, 70, 21, -17, (-235, 240), False, True, 26, LARGE),
    "Die03": Layout(True, 1, 168, 96, 146, 104, 21, 17, (-230,), True, True, 0, LARGE),
    "Die04": Layout(False, -1, 132, 120, 182, 78, 17, -13, (190, -195), False, False, 17, SMALL),
}


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """One die in a photograph of one size.

    box: the band's width and length. to_frame: 2 x 3, band to frame. chip_foot, lead_foot: where
    the bond stands, band coordinates. inward: unit vector into the chip, square to its edge, band
    coordinates. run: pixels between the feet along ``inward``. visible: the part of the band's
    length, (from, to) in pixels, whose middle lies inside the photograph.
    """

    layout: Layout
    resolution: Resolution
    box: tuple[int, int]
    to_frame: NDArray[np.float64]
    chip_foot: tuple[float, float]
    lead_foot: tuple[float, float]
    inward: tuple[float, float]
    run: float
    visible: tuple[float, float]

    def frame_point(self, x: float, y: float) -> tuple[float, float]:
        """A point of the band in the photograph's pixels."""
        column, row = self.to_frame @ (x, y, 1.0)
        return float(column), float(row)

    def depth(self, x: float, y: float) -> float:
        """Pixels from the chip's edge, inwards."""
        foot_x, foot_y = self.chip_foot
        return INSET * self.run + self.inward[0] * (x - foot_x) + self.inward[1] * (y - foot_y)

    def along(self, x: float, depth: float) -> float:
        """The y at which the line x = constant lies ``depth`` pixels inside the chip's edge."""
        foot_x, foot_y = self.chip_foot
        rest = depth - INSET * self.run - self.inward[0] * (x - foot_x)
        return foot_y + rest / self.inward[1]


INSET = 0.42
"""Depth of the chip's foot inside its edge, as a share of ``Geometry.run``."""

_FEET = 0.15, 0.81
_VISIBLE_MARGIN = 28.0


def geometry(die: str, resolution: Resolution) -> Geometry:
    """Raises UsageError for a die without a layout or a size that is not the challenge's."""
    if die not in LAYOUTS:
        raise UsageError(f"no synthetic die {die!r}: there are {', '.join(LAYOUTS)}")
    if resolution not in RESOLUTIONS:
        raise UsageError(
            f"no synthetic photograph of {resolution}: there are (540, 630) and (720, 840)"
        )
    layout = LAYOUTS[die]
    width, height = resolution
    row = CHALLENGE_DIES[die]
    left, upper, right, lower = crop_box(row, width, height)
    box_width, box_length = right - left, lower - upper
    to_frame = view(np.zeros((height, width), np.uint8), row, None).to_frame
    upper_foot = box_width / 2, _FEET[0] * box_length
    lower_foot = box_width / 2, _FEET[1] * box_length
    if not layout.chip_on_top:
        upper_foot = box_width / 2, (1 - _FEET[1]) * box_length
        lower_foot = box_width / 2, (1 - _FEET[0]) * box_length
    chip, lead = (upper_foot, lower_foot) if layout.chip_on_top else (lower_foot, upper_foot)
    inward_frame = {0: (0, 1), -1: (-1, 0), 1: (1, 0), 2: (0, -1)}[layout.quarter_turns]
    inward = to_frame[:, :2].T @ inward_frame
    run = float(abs(inward[1]) * abs(chip[1] - lead[1]))
    lengthwise = np.linspace(0, box_length, 145)
    middles = to_frame @ np.stack([np.full(145, box_width / 2), lengthwise, np.ones(145)])
    inside = (
        (middles >= _VISIBLE_MARGIN) & (middles <= np.array([[width], [height]]) - _VISIBLE_MARGIN)
    ).all(axis=0)
    shown = lengthwise[inside]
    return Geometry(
        layout=layout,
        resolution=resolution,
        box=(box_width, box_length),
        to_frame=to_frame,
        chip_foot=chip,
        lead_foot=lead,
        inward=(float(inward[0]), float(inward[1])),
        run=run,
        visible=(float(shown[0]), float(shown[-1])),
    )
