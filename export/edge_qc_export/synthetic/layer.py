"""A sheet in band coordinates on which metal is drawn, and its way into the photograph.

What is drawn covers (``colour``, ``through``) or darkens (``shade``) what lies below.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_qc_export.synthetic.layout import Geometry
from edge_qc_export.synthetic.texture import Floats

MARGIN = 60
"""Pixels of sheet around the band's box."""

REACH = 30
"""Pixels beyond the photograph's edge that are drawn, for parts that lie a little aside."""

Window = tuple[slice, slice]


@dataclass(slots=True, eq=False)
class Layer:
    """colour: grey levels times cover. through: how much of what lies below is seen, 0 to 1."""

    colour: Floats
    through: Floats

    @classmethod
    def empty(cls, scene: Geometry) -> Layer:
        """A clear sheet over the band's box and ``MARGIN`` around it."""
        width, length = scene.box
        shape = length + 2 * MARGIN, width + 2 * MARGIN
        return cls(np.zeros(shape, np.float32), np.ones(shape, np.float32))

    def window(self, x: float, y: float, half_x: float, half_y: float) -> Window:
        """The part of the sheet within half_x, half_y of a point of the band."""
        rows, columns = self.colour.shape
        x, y = x + MARGIN, y + MARGIN
        return (
            slice(max(0, int(y - half_y)), min(rows, int(y + half_y) + 1)),
            slice(max(0, int(x - half_x)), min(columns, int(x + half_x) + 1)),
        )

    @staticmethod
    def grid(window: Window) -> tuple[Floats, Floats]:
        """Band coordinates of a window's pixel centres: x (1, columns) and y (rows, 1)."""
        rows, columns = window
        xs = np.arange(columns.start, columns.stop, dtype=np.float32) + (0.5 - MARGIN)
        ys = np.arange(rows.start, rows.stop, dtype=np.float32) + (0.5 - MARGIN)
        return xs[None], ys[:, None]

    def cover(self, window: Window, grey: Floats | float, cover: Floats) -> None:
        """Lay grey levels over the sheet, ``cover`` 0 to 1."""
        self.colour[window] += (grey - self.colour[window]) * cover
        self.through[window] *= 1.0 - cover

    def darken(self, window: Window, shade: Floats) -> None:
        """Cast a shadow, 0 none to 1 black, on the sheet and on what lies below."""
        self.colour[window] *= 1.0 - shade
        self.through[window] *= 1.0 - shade

    def warped(self, scene: Geometry, shift: float = 0.0, reach: int = REACH) -> Decal | None:
        """The sheet as it lies in the photograph and ``reach`` pixels around it, or None if it is
        clear or outside; shift: pixels across the band."""
        rows, columns = (np.flatnonzero((self.through < 0.995).any(axis=axis)) for axis in (1, 0))
        if not rows.size:
            return None
        top, bottom = max(0, int(rows[0]) - 1), int(rows[-1]) + 2
        left, right = max(0, int(columns[0]) - 1), int(columns[-1]) + 2
        affine = scene.to_frame.copy()
        # Pixel centres on both sides; the sheet's origin lies MARGIN outside the box.
        origin = left + 0.5 - MARGIN + shift, top + 0.5 - MARGIN
        affine[:, 2] += affine[:, :2] @ origin - 0.5
        part = slice(top, bottom), slice(left, right)
        height, width = self.colour[part].shape
        corners = affine @ np.array([[0, width, width, 0], [0, 0, height, height], [1, 1, 1, 1]])
        beyond = np.array(scene.resolution) + reach
        low = np.maximum(np.floor(corners.min(axis=1)).astype(int), -reach)
        high = np.minimum(np.ceil(corners.max(axis=1)).astype(int) + 1, beyond)
        if (high <= low).any():
            return None
        affine[:, 2] -= low
        size = int(high[0] - low[0]), int(high[1] - low[1])

        def warp(sheet: Floats, outside: int) -> NDArray[np.uint8]:
            # Two sheets of bytes warp in half the time of one sheet with two channels.
            return np.asarray(
                cv2.warpAffine(
                    sheet.astype(np.uint8),
                    affine,
                    size,
                    flags=cv2.INTER_LINEAR,
                    borderMode=cv2.BORDER_CONSTANT,
                    borderValue=outside,
                ),
                np.uint8,
            )

        colour = warp(np.clip(self.colour[part], 0, 255), 0)
        return Decal((int(low[0]), int(low[1])), colour, warp(self.through[part] * 255.0, 255))


@dataclass(frozen=True, slots=True, eq=False)
class Decal:
    """A sheet warped into the photograph: corner (column, row), and as bytes what it shows and how
    much of what lies below is seen."""

    corner: tuple[int, int]
    colour: NDArray[np.uint8]
    through: NDArray[np.uint8]

    def stick(self, frame: Floats, margin: int, by: tuple[int, int] = (0, 0)) -> None:
        """Lay it on a frame with ``margin`` pixels around it, in place, moved ``by`` pixels."""
        left, top = self.corner[0] + margin + by[0], self.corner[1] + margin + by[1]
        rows, columns = self.colour.shape
        first_row, first_column = max(0, -top), max(0, -left)
        last_row = min(rows, frame.shape[0] - top)
        last_column = min(columns, frame.shape[1] - left)
        if last_row <= first_row or last_column <= first_column:
            return
        own = slice(first_row, last_row), slice(first_column, last_column)
        part = frame[top + first_row : top + last_row, left + first_column : left + last_column]
        part *= self.through[own] * np.float32(1 / 255)
        part += self.colour[own]
