"""A sheet in band coordinates on which metal is drawn, and its way into the photograph.

What is drawn covers (``colour``, ``through``) or darkens (``shade``) what lies below.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from edge_qc_export.synthetic.layout import Geometry
from edge_qc_export.synthetic.texture import Floats

MARGIN = 60
"""Pixels of sheet around the band's box."""

Window = tuple[slice, slice]


@dataclass(slots=True, eq=False)
class Layer:
    """colour: grey levels times cover. through: how much of what lies below is seen, 0 to 1."""

    colour: Floats
    through: Floats
    origin: tuple[float, float] = field(default=(float(MARGIN), float(MARGIN)))

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

    def lay_over(self, frame: Floats, scene: Geometry, margin: int, shift: float = 0.0) -> None:
        """Warp the sheet onto a frame with ``margin`` pixels around it, in place; shift: pixels
        across the band."""
        affine = scene.to_frame.copy()
        # Pixel centres on both sides; the sheet's origin lies MARGIN outside the box.
        affine[:, 2] += affine[:, :2] @ (0.5 - MARGIN + shift, 0.5 - MARGIN) - 0.5 + margin
        sheet = np.dstack(
            [np.clip(self.colour, 0, 255), self.through * 255.0]
        ).astype(np.uint8)  # fmt: skip
        rows, columns = self.colour.shape
        corners = affine @ np.array([[0, columns, columns, 0], [0, 0, rows, rows], [1, 1, 1, 1]])
        low = np.maximum(np.floor(corners.min(axis=1)).astype(int), 0)
        high = np.minimum(np.ceil(corners.max(axis=1)).astype(int) + 1, frame.shape[::-1])
        if (high <= low).any():
            return
        affine[:, 2] -= low
        warped = cv2.warpAffine(
            sheet,
            affine,
            (int(high[0] - low[0]), int(high[1] - low[1])),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(0, 255),
        )
        part = frame[low[1] : high[1], low[0] : high[0]]
        part *= warped[:, :, 1] * np.float32(1 / 255)
        part += warped[:, :, 0]
