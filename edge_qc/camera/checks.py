"""Checks a frame before anything judges it.

They find a frame that shows nothing, or that a frozen driver delivered twice. The model decides
whether a frame is good enough to judge (defocus and over-exposure are drift).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SHARE = 0.999
"""Share of a frame's pixels that must be dark, or bright, before it counts as no picture: real
crops of bare boards are up to 99.5 % black."""
_DARK = 20
"""Grey level up to which a covered sensor's offset and noise reach."""
_BRIGHT = 250


def nothing_to_judge(pixels: NDArray[np.uint8], image: str | None) -> str:
    """Why a frame shows nothing that can be judged, for people, or "". image: its file's name, if
    it has one. The station's cameras and ``edge-qc judge`` both ask it."""
    what = no_picture(pixels)
    return what and f"{f'image {image}' if image else 'frame'} is {what}"


def no_picture(pixels: NDArray[np.uint8]) -> str:
    """Why a frame (uint8, any shape) shows nothing, or ""."""
    for what, beyond in (
        (f"black: {_SHARE:.1%} of its pixels are at most {_DARK}. Check lens cap and lamp", _dark),
        (f"saturated: {_SHARE:.1%} of its pixels are at least {_BRIGHT}. Check the exposure", _lit),
    ):
        # Every sixteenth row first, which settles it for every frame that shows something: 2 % of a
        # sixteenth is more than the 0.1 % that may be missing.
        if beyond(pixels[::16]) >= 0.98 and beyond(pixels) >= _SHARE:
            return what
    return ""


def _dark(pixels: NDArray[np.uint8]) -> float:
    return np.count_nonzero(pixels <= _DARK) / pixels.size


def _lit(pixels: NDArray[np.uint8]) -> float:
    return np.count_nonzero(pixels >= _BRIGHT) / pixels.size


class RepeatCheck:
    """Detects a live camera that repeats a frame: noise makes that impossible, so its driver is
    frozen."""

    def __init__(self) -> None:
        self._last: NDArray[np.uint8] | None = None
        self.run = 0

    def repeated(self, pixels: NDArray[np.uint8]) -> bool:
        """True if all pixels equal the frame's before; ``run`` counts how often on end."""
        same = self._last is not None and np.array_equal(self._last, pixels)
        self._last = pixels
        self.run = self.run + 1 if same else 0
        return same
