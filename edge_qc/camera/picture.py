"""What a photograph says of the camera that took it: how bright, how sharp, shifted by how much.

Pure figures on sub-sampled pixels, cheap enough to take beside judging. ``monitoring`` compares
them with a reference.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 128
_CROP = 256
_REACH = SIDE // 8


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """brightness: the mean grey value, 0 to 255. sharpness: variance of the Laplacian over that of
    the pixels (Pech-Pacheco et al. 2000), in the middle of the picture, which no lamp changes.
    small: the picture at (SIDE, SIDE), float32."""

    brightness: float
    sharpness: float
    small: NDArray[np.float32]


def measure(pixels: NDArray[np.uint8]) -> Picture:
    """Of a frame's pixels, (H, W) or (H, W, 3), where green stands for grey."""
    grey = pixels if pixels.ndim == 2 else pixels[:, :, 1]
    height, width = grey.shape
    step = max(1, min(height, width) // (2 * SIDE))
    coarse = np.ascontiguousarray(grey[::step, ::step])
    small = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    top, left = max(0, height - _CROP) // 2, max(0, width - _CROP) // 2
    crop = np.ascontiguousarray(grey[top : top + _CROP, left : left + _CROP])
    # Softened first: the sensor's noise is always sharp.
    soft = cv2.GaussianBlur(crop, (5, 5), 1.0)
    edges = cv2.meanStdDev(cv2.Laplacian(soft, cv2.CV_16S))[1].item() ** 2
    texture = cv2.meanStdDev(crop)[1].item() ** 2
    return Picture(
        brightness=float(small.mean()),
        sharpness=edges / max(texture, 1.0),
        small=small,
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a picture lies against a reference: per cent of its side to the right and below, and
    how alike the two are there, -1 to 1."""

    right: float
    down: float
    likeness: float


def place_in(small: NDArray[np.float32], reference: NDArray[np.float32]) -> Place:
    """By normalised cross-correlation of the reference's middle, which no lamp changes, within an
    eighth of the side; to parts of a pixel by a parabola through the peak."""
    middle = reference[_REACH:-_REACH, _REACH:-_REACH]
    found: NDArray[np.float32] = np.nan_to_num(
        np.asarray(cv2.matchTemplate(small, middle, cv2.TM_CCOEFF_NORMED), np.float32)
    ).clip(-1.0, 1.0)
    row, column = np.unravel_index(int(found.argmax()), found.shape)
    return Place(
        right=100.0 * (_peak(found[row], int(column)) - _REACH) / SIDE,
        down=100.0 * (_peak(found[:, column], int(row)) - _REACH) / SIDE,
        likeness=float(found[row, column]),
    )


def _peak(values: NDArray[np.float32], at: int) -> float:
    if not 0 < at < len(values) - 1:
        return float(at)
    before, here, after = (float(values[at + step]) for step in (-1, 0, 1))
    bend = before - 2 * here + after
    return at + (0.0 if bend >= 0 else 0.5 * (before - after) / bend)
