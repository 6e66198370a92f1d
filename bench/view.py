"""The view, frame to crop at 224: one affine warp against PIL's rotate, crop and resize."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from PIL import Image
from timing import paired

from edge_qc.bundle.dies import CHALLENGE_DIES
from edge_qc.inspection.view import crop_box, view

SIZE = (224, 224)


def figures() -> list[dict[str, Any]]:
    """view: all four dies of a 720 x 840 photograph, one thread each side."""
    cv2.setNumThreads(1)
    pixels = np.random.default_rng(0).integers(0, 256, (840, 720), dtype=np.uint8)
    picture = Image.fromarray(pixels)

    def ours() -> None:
        for die in CHALLENGE_DIES.values():
            view(pixels, die, SIZE)

    def theirs() -> None:
        for die in CHALLENGE_DIES.values():
            turned = picture.rotate(die.angle, resample=Image.Resampling.BILINEAR, expand=True)
            cropped = turned.crop(crop_box(die, *picture.size))
            np.asarray(cropped.resize(SIZE[::-1], Image.Resampling.BILINEAR))

    note = "four dies, 720x840 to 224x224, bilinear both, against PIL's rotate, crop and resize"
    return [paired("view", ours, theirs, runs=60, goal=">= 10", note=note)]
