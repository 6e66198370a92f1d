"""The golden views and answers: what an engine must reproduce before it may judge.

``golden.npz`` beside the manifest. The workstation chooses and writes them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.arrays import read_arrays
from edge_qc.bundle.manifest import Manifest
from edge_qc.errors import BundleError
from edge_qc.parts import Reading


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """Views and the answers that torch gave in FP32: n views of every die and class, and drift.

    views: (n, 1, H, W) uint8; labels and dies: n names; logits (n, C), distances (n, gh, gw),
    drift (n,), embedding_distance (n,), good_distance (n,) float32; the last is empty in bundles of
    schema 1.
    """

    views: NDArray[np.uint8]
    labels: tuple[str, ...]
    dies: tuple[str, ...]
    logits: NDArray[np.float32]
    distances: NDArray[np.float32]
    drift: NDArray[np.float32]
    embedding_distance: NDArray[np.float32]
    good_distance: NDArray[np.float32]

    def reading(self, index: int) -> Reading:
        """The reference answers of one view."""
        return Reading(
            logits=self.logits[index],
            distances=self.distances[index],
            drift=float(self.drift[index]),
            embedding_distance=float(self.embedding_distance[index]),
            good_distance=float(self.good_distance[index]) if len(self.good_distance) else None,
        )


def read_golden(file: Path, manifest: Manifest) -> Golden:
    """What the file holds. Raises BundleError if it is not of this manifest's shapes."""
    names = tuple(field.name for field in fields(Golden))
    arrays = read_arrays(
        file, "a set of golden answers", names if manifest.gate is not None else names[:-1]
    )
    golden = Golden(
        views=arrays["views"],
        labels=tuple(str(label) for label in arrays["labels"].ravel()),
        dies=tuple(str(die) for die in arrays["dies"].ravel()),
        logits=arrays["logits"],
        distances=arrays["distances"],
        drift=arrays["drift"],
        embedding_distance=arrays["embedding_distance"],
        good_distance=np.empty(0, np.float32) if manifest.gate is None else arrays["good_distance"],
    )
    count = len(golden.labels)
    wanted = {
        "views": (count, 1, manifest.input.height, manifest.input.width),
        "dies": (count,),
        "logits": (count, len(manifest.classes)),
        "distances": (count, *manifest.padim.grid),
        "drift": (count,),
        "embedding_distance": (count,),
        "good_distance": (0 if manifest.gate is None else count,),
    }
    for name, shape in wanted.items():
        seen = np.shape(getattr(golden, name))
        if seen != shape or count == 0:
            raise BundleError(f"{file}: {name} has shape {seen}, wanted {shape}")
    return golden
