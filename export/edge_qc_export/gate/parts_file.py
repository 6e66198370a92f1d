"""The labelled parts' scores as they travel in a bundle: ``parts.npz``, without pickle.

A calibration sets new thresholds from them and from parts that people verified since, without the
images and without training. docs/bundle.md lists the arrays.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.arrays import read_arrays
from edge_qc.bundle.manifest import PARTS
from edge_qc.bundle.verification import Bundle
from edge_qc.errors import BundleError, UsageError
from edge_qc_export.gate.scored import Scored


@dataclass(frozen=True, slots=True, eq=False)
class KeptParts:
    """n labelled parts as a bundle keeps them.

    views: n digests of the pixels that were scored, by which a part is known again. sessions: n, or
    "" where that is not known. added: (n,), 0 for a part that the bundle was made with, else the
    number of the calibration that brought it, from 1.
    """

    scored: Scored
    views: tuple[str, ...]
    sessions: tuple[str, ...]
    added: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.views)


def view_digest(pixels: NDArray[np.uint8]) -> str:
    """Half of the sha256 of one view's pixels."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()[:32]


def parts_bytes(parts: KeptParts) -> bytes:
    """The file, the same bytes for the same parts."""
    columns = {
        field.name: np.asarray(getattr(parts.scored, field.name)) for field in fields(Scored)
    }
    columns |= {
        "views": np.array(parts.views, np.str_),
        "sessions": np.array(parts.sessions, np.str_),
        "added": parts.added,
    }
    stream = io.BytesIO()
    np.savez_compressed(stream, **columns)  # type: ignore[arg-type]
    return stream.getvalue()


def read_parts(bundle: Bundle) -> KeptParts:
    """The parts of a bundle. Raises UsageError where it carries none, BundleError where they are
    damaged."""
    file = bundle.path / PARTS
    if PARTS not in bundle.manifest.files:
        raise UsageError(
            f"bundle {bundle.path}: carries no {PARTS}, the scores of the parts that it was made "
            "with: it is of an earlier edge-qc. Export it again from its run ('edge-qc export "
            "RUN'), and calibrate that"
        )
    names = ("labels", "dies", "names", "classes", "views", "sessions")
    numbers = ("padim", "logits", "good_distance", "embedding_distance")
    found = read_arrays(file, "a set of labelled parts", (*names, *numbers, "seen", "added"))
    try:
        texts = {name: tuple(map(str, found[name])) for name in names}
        scored = Scored(
            texts["labels"],
            texts["dies"],
            texts["names"],
            np.asarray(found["seen"], np.bool_),
            texts["classes"],
            **{name: np.asarray(found[name], np.float64) for name in numbers},
        )
        parts = KeptParts(
            scored, texts["views"], texts["sessions"], np.asarray(found["added"], np.int32)
        )
    except (ValueError, TypeError) as error:
        raise BundleError(f"{file}: not a set of labelled parts: {error!r}") from error
    count, classes = len(scored), bundle.manifest.classes
    shapes = {name: np.shape(getattr(scored, name)) for name in ("seen", *numbers)}
    shapes |= {name: np.shape(getattr(parts, name)) for name in ("views", "sessions", "added")}
    shapes |= {name: np.shape(getattr(scored, name)) for name in ("dies", "names")}
    for name, shape in shapes.items():
        wanted = (count, len(classes)) if name == "logits" else (count,)
        if shape != wanted or scored.classes != classes:
            raise BundleError(
                f"{file}: {name} has shape {shape} and the classes are {scored.classes}, wanted "
                f"{wanted} and {classes}. Export the bundle again"
            )
    return parts
