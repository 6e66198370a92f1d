"""Pictures for people: the unusual areas of a view, drawn over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_qc.errors import DataError
from edge_qc.evidence.store import FRAME, VIEW, Exhibit

_STRENGTH = 0.55


def heat_picture(view: NDArray[np.uint8], distances: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The view (H, W) with the patches' distances (rows, columns) over it, (H, W, 3) BGR.

    Brightness and colour both grow with the distance (perceptually even, also without colour); the
    scale is this image's own, from its median to its largest: it shows where, not how much.
    """
    low, high = float(np.median(distances)), float(distances.max())
    share = np.clip((distances - low) / (high - low), 0, 1) if high > low else distances * 0
    height, width = view.shape
    smooth = cv2.resize(
        np.asarray(share * 255, np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
    )
    colour = cv2.applyColorMap(smooth, cv2.COLORMAP_INFERNO)
    weight = (_STRENGTH * smooth.astype(np.float32) / 255)[..., None]
    grey = cv2.cvtColor(view, cv2.COLOR_GRAY2BGR)
    return np.asarray(grey * (1 - weight) + colour * weight, np.uint8)


def heat_png(exhibit: Exhibit) -> bytes | None:
    """The heat map of an image as PNG; None if it was not judged. Raises DataError if a file is
    damaged."""
    data, distances = exhibit.file(VIEW), exhibit.distances()
    if data is None or distances is None:
        return None
    view = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if view is None or distances.ndim != 2:
        raise DataError(f"evidence {exhibit.folder}: {VIEW} is damaged")
    done, png = cv2.imencode(".png", heat_picture(np.asarray(view, np.uint8), distances))
    return bytes(png) if done else None


PICTURES: Mapping[str, Callable[[Exhibit], bytes | None]] = {
    "frame.png": lambda exhibit: exhibit.file(FRAME),
    "view.png": lambda exhibit: exhibit.file(VIEW),
    "heat.png": heat_png,
}
"""An image's pictures by name: PNG, or None if there is none."""
