"""Which views travel in the bundle as golden, with the answers that torch gives them in FP32.

One of every die and class, and some drift of every die. A view whose label would change with a
difference that the tolerances allow tests the engine's rounding and not the engine: such a view is
passed over.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from edge_qc.bundle.golden import Golden
from edge_qc.bundle.verification import Bundle
from edge_qc.errors import DataError
from edge_qc.parts import DRIFT
from edge_qc_export.learn.run_views import LabelledViews
from edge_qc_export.packing.golden_file import is_steady
from edge_qc_export.release.fitting import answers
from edge_qc_export.release.rule import readings_from_answers

DRIFTS_OF_A_DIE = 2
_CANDIDATES = 12
"""Views of a die and class that are tried before it is left out."""
_TRIED = 4
"""Views that are tried at once."""


def choose_golden(
    bundle: Bundle, module: nn.Module, quick: nn.Module, sources: Sequence[LabelledViews]
) -> Golden:
    """The golden views and answers of ``module``, which is FP32.

    quick: answers the same in less time, and tries the views. bundle: carries the manifest whose
    rule and tolerances decide. sources: views in the order in which they are preferred. Raises
    DataError if no view qualifies.
    """
    batch = bundle.manifest.input.batch
    rows: list[tuple[LabelledViews, int]] = []
    for die in sorted(bundle.manifest.dies):
        for label in bundle.manifest.labels:
            wanted = DRIFTS_OF_A_DIE if label == DRIFT else 1
            rows.extend(_robust(bundle, quick, sources, die, label, wanted))
    if not rows:
        raise DataError(
            "no view keeps its label within the tolerances, so that no golden answers can be "
            "given. Train the network longer"
        )
    pixels = np.concatenate([source.pixels[i : i + 1] for source, i in rows])
    filled = -len(pixels) % batch
    padded = np.concatenate([pixels, np.repeat(pixels[-1:], filled, axis=0)])
    made = answers(module, padded, batch=batch, distances=True)
    count = len(pixels)
    assert made.distances is not None
    return Golden(
        views=pixels,
        labels=tuple(source.labels[i] for source, i in rows),
        dies=tuple(source.dies[i] for source, i in rows),
        logits=made.logits[:count],
        distances=made.distances[:count],
        drift=made.drift[:count],
        embedding_distance=made.embedding_distance[:count],
        good_distance=made.good_distance[:count],
    )


def _robust(
    bundle: Bundle,
    module: nn.Module,
    sources: Sequence[LabelledViews],
    die: str,
    label: str,
    wanted: int,
) -> list[tuple[LabelledViews, int]]:
    """Up to ``wanted`` steady views of a die and class, of the first source that has any."""
    for source in sources:
        rows = [
            i
            for i, pair in enumerate(zip(source.dies, source.labels, strict=True))
            if pair == (die, label)
        ]
        rows = sorted(rows, key=source.names.__getitem__)[:_CANDIDATES]
        steady: list[tuple[LabelledViews, int]] = []
        for start in range(0, len(rows), _TRIED):
            tried = rows[start : start + _TRIED]
            made = readings_from_answers(bundle.manifest, answers(module, source.pixels[tried]))
            steady += [
                (source, i)
                for i, seen in zip(tried, made, strict=True)
                if is_steady(bundle, die, seen)
            ]
            if len(steady) >= wanted:
                break
        if steady:
            return steady[:wanted]
    return []
