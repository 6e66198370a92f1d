"""Each defect left out in turn, as if never seen: how many of its parts would pass.

Head, embedding, tails and threshold are all set again without it. What comes out is measured on
defects that somebody has seen; a defect of another kind may pass more often, or less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score

from edge_qc.parts import GOOD
from edge_qc_export.gate.calibration import fit_gate
from edge_qc_export.gate.crossfit import Labelled, cross_fit
from edge_qc_export.gate.head import Head
from edge_qc_export.gate.threshold import Wish


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One defect that counted as never seen. passed of images would pass; auroc: how well the
    embedding's distance to the nearest class told them from the parts that were known."""

    images: int
    passed: int
    auroc: float


def leave_each_out(
    parts: Labelled,
    wish: Wish,
    *,
    directions: int,
    start: Head | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, LeftOut]:
    """By defect. Raises DataError as ``fit_gate``."""
    found = {}
    for name in parts.classes:
        odd = parts.is_class(name)
        if name == GOOD or not odd.any():
            continue
        scores = cross_fit(parts, directions, start, left_out=name)
        gate = fit_gate(scores, wish, left_out=name)
        found[name] = LeftOut(
            images=int(odd.sum()),
            passed=int(gate.open[odd].sum()),
            auroc=float(roc_auc_score(odd, scores.embedding_distance)),
        )
        advance(1)
    return found


def told_apart(left_out: dict[str, LeftOut], otherwise: float) -> float:
    """How well the embedding tells new defects from known parts, in [0.5, 0.99]: the mean over the
    defects that were left out; ``otherwise`` if there are none."""
    if not left_out:
        return otherwise
    mean = float(np.mean([one.auroc for one in left_out.values()]))
    return min(max(mean, 0.5), 0.99)
