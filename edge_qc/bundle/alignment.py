"""Where a model's parts lie: how far they may lie aside, and what each die looks like to be found.

The facts stand in the manifest, what GOOD parts look like in ``alignment.npz`` beside it; a run
folder has both as well. How a part is found lives in ``edge_qc.inspection.alignment``, how the
templates are learned at the workstation. A bundle without alignment takes every part to lie where
the die table says.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge_qc.bundle.arrays import read_arrays
from edge_qc.bundle.calibration import Facts, Finite, Fraction
from edge_qc.errors import BundleError

ALIGNMENT = "alignment.npz"
MOST_SHIFT, MOST_TURN = 0.25, 20.0
"""The widest bounds: a share of the photograph, and degrees."""
_LARGEST = 1024
"""Template pixels along an axis: a few hundred are usual."""

Edges = NDArray[np.int8]
"""(2, h, w): the mean edge of GOOD parts at each pixel of the reduced photograph, right and down,
127 for one that every part has."""


class DieTemplate(Facts):
    """What stands beside a die's edges. step: photograph pixels along an edge of the template's.
    anchor: (right, down), where the crop's centre lies in the template, in its pixels between pixel
    centres. limit: the residual above which nothing is taken to be the part."""

    step: int = Field(gt=0)
    anchor: tuple[Finite, Finite]
    limit: Fraction


class Alignment(Facts):
    """How far a part may lie from where GOOD parts lie on average, and by die what it looks like.

    shift: a share of the photograph's width to the right and left, of its height up and down. turn:
    degrees to either side. Beyond either a part is not judged.
    """

    shift: float = Field(gt=0, le=MOST_SHIFT)
    turn: float = Field(gt=0, le=MOST_TURN)
    dies: Mapping[str, DieTemplate] = Field(min_length=1)


def alignment_bytes(edges: Mapping[str, Edges]) -> bytes:
    """The npz of each die's edges, the same bytes for the same edges. No pickle."""
    stream = io.BytesIO()
    names = sorted(edges)
    arrays = {f"edges_{place}": edges[name] for place, name in enumerate(names)}
    np.savez_compressed(stream, dies=np.array(names), **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def read_edges(file: Path, alignment: Alignment) -> dict[str, Edges]:
    """The edges of each die of ``alignment``. Raises BundleError if the file is not of that."""
    arrays = read_arrays(file, "a set of templates of dies", ("dies",))
    names = [str(name) for name in arrays["dies"].ravel()]
    edges = {
        name: arrays[f"edges_{place}"]
        for place, name in enumerate(names)
        if f"edges_{place}" in arrays
    }
    if set(edges) != set(alignment.dies):
        raise BundleError(
            f"{file}: holds templates of {sorted(edges)}, wanted {sorted(alignment.dies)}. "
            "Copy it again from where it was made"
        )
    for name, found in edges.items():
        if found.dtype != np.int8 or found.ndim != 3 or found.shape[0] != 2:
            raise BundleError(
                f"{file}: the template of {name} is {found.dtype} {found.shape}, "
                "wanted int8 (2, h, w)"
            )
        if not (found.any() and max(found.shape[1:]) <= _LARGEST):
            raise BundleError(
                f"{file}: the template of {name} is empty or too large: {found.shape}, "
                f"wanted at most {_LARGEST} pixels along an axis"
            )
    return edges
