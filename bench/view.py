"""The view, frame to crop: one affine warp against PIL's rotate, crop and resize at 224, and what
finding the part first adds."""

from __future__ import annotations

import time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from timing import paired

from edge_qc.bundle.alignment import Alignment, DieTemplate
from edge_qc.bundle.dies import CHALLENGE_DIES
from edge_qc.inspection.alignment import Template, edges_of, reduced
from edge_qc.inspection.view import crop_box, crop_centre, view
from edge_qc_export.synthetic import LARGE, Aside, render

SIZE = (224, 224)


def figures() -> list[dict[str, Any]]:
    """view: all four dies of a 720 x 840 photograph, one thread each side; align_ms: one die."""
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
    return [paired("view", ours, theirs, runs=60, goal=">= 10", note=note), _aligned()]


def _aligned() -> dict[str, Any]:
    """What finding the part adds to a view, in processor time: others' work is not its own."""
    name, size, step = "Die02", (320, 96), 6
    die = CHALLENGE_DIES[name]
    drawn = [render("GOOD", name, LARGE, (0, number)) for number in range(8)]
    askew = [render("GOOD", name, LARGE, (1, n), Aside(0.06, 4.0)) for n in range(8)]
    right, down = crop_centre(die, *LARGE)
    facts = DieTemplate(step=step, anchor=(right / step - 0.5, down / step - 0.5), limit=0.5)
    mean = np.mean([edges_of(reduced(pixels, step)) for pixels in drawn], axis=0)
    edges = np.moveaxis(np.round(127 * mean), -1, 0).astype(np.int8)
    template = Template(name, facts, edges, Alignment(shift=0.08, turn=5.0, dies={name: facts}))

    def seconds(pixels: NDArray[np.uint8], finder: Template | None) -> float:
        began = time.thread_time()
        view(pixels, die, size, "area", finder)
        return time.thread_time() - began

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)  # as the station does
    seconds(askew[0], template)
    found = [(seconds(p, template), seconds(p, None)) for _ in range(40) for p in askew]
    cv2.setNumThreads(before)
    ours, plain = (float(np.median(side)) for side in zip(*found, strict=True))
    return {
        "name": "align_ms",
        "ratio": 1e3 * float(np.median([with_it - without for with_it, without in found])),
        "ratio_is": "ms added to a view, one thread",
        "goal": "<= 1.5",
        "ours_median_s": ours,
        "theirs_median_s": plain,
        "runs": len(found),
        "note": f"720x840 to 320x96, parts within 6 % and 4° askew: {1e3 * ours:.2f} ms with the "
        f"part found first, {1e3 * plain:.2f} ms without",
    }
