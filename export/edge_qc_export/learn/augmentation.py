"""Changes that the line itself makes to a view: placement, light, focus and sensor noise.

No flips and no turns: the die table brings every band upright, so a mirrored band is a part that
does not exist, and the loop's side is part of what is judged.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

SHIFT = 0.04
"""Largest shift, as a share of the view's height and width."""

Change = Callable[[NDArray[np.uint8], NDArray[np.intp]], NDArray[np.uint8]]


def augment(seed: int, epoch: int) -> Change:
    """The changes of one epoch: views (N, H, W) uint8 and their rows to changed views.

    A view's change follows from (seed, epoch, row) alone, whatever batch or process it is in.
    """

    def change(pixels: NDArray[np.uint8], rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        pairs = zip(pixels, rows, strict=True)
        return np.stack(
            [_one(view, np.random.default_rng([seed, epoch, row])) for view, row in pairs]
        )

    return change


def _one(view: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A shift of up to 4 %, contrast and brightness by up to 15 %, half the time a blur of up to
    1 pixel, noise of up to 2.5 % of the range."""
    rows, columns = view.shape
    dx, dy = rng.uniform(-SHIFT, SHIFT, 2) * (columns, rows)
    warp = np.array([[1, 0, dx], [0, 1, dy]])
    changed = cv2.warpAffine(view, warp, (columns, rows), borderMode=cv2.BORDER_REPLICATE)
    blur = rng.uniform(0.3, 1.0)
    if rng.random() < 0.5:
        changed = cv2.GaussianBlur(changed, (0, 0), blur)
    contrast, light = rng.uniform(0.85, 1.15), rng.uniform(-0.15, 0.15) * 255
    mean = float(changed.mean())
    noise = rng.standard_normal(view.shape, np.float32) * rng.uniform(0, 0.025) * 255
    values = (changed.astype(np.float32) - mean) * contrast + mean + light + noise
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
