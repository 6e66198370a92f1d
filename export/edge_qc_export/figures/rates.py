"""Figures that need every image: calibration error, and how well a score tells drift from known.

Pure numpy. Each function takes weights (R, n), how often each image counts in each of R draws, so
that the bootstrap is one call; ``np.ones((1, n))`` for the sample itself. What follows from counts
alone is in ``metrics``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 15
"""Bins of equal width of the calibration error (Guo et al. 2017)."""


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """A reliability diagram: per bin of confidence how many images, their mean confidence and the
    share that is right; NaN if a bin is empty."""

    edges: Floats
    counts: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats


def _bins(confidence: Floats) -> NDArray[np.intp]:
    return np.minimum((confidence * BINS).astype(np.intp), BINS - 1)


def reliability(confidence: Floats, right: NDArray[np.bool_]) -> Reliability:
    """confidence: (n,) probability of the predicted class; right: (n,)."""
    places = _bins(confidence)
    counts = np.bincount(places, minlength=BINS)
    with np.errstate(invalid="ignore"):
        return Reliability(
            edges=np.linspace(0, 1, BINS + 1),
            counts=counts.astype(np.int64),
            confidence=np.bincount(places, confidence, BINS) / counts,
            accuracy=np.bincount(places, right.astype(np.float64), BINS) / counts,
        )


def calibration_error(confidence: Floats, right: NDArray[np.bool_], weights: Floats) -> Floats:
    """(R,): expected calibration error, the mean over images of |accuracy - confidence| of their
    bin."""
    in_bin = np.eye(BINS)[_bins(confidence)]
    gap = weights @ (in_bin * (right - confidence)[:, None])
    return np.asarray(np.abs(gap).sum(1) / weights.sum(1), np.float64)


def auroc(scores: Floats, positive: NDArray[np.bool_], weights: Floats) -> Floats:
    """(R,): probability that a positive scores above a negative, ties counting half. NaN if a draw
    lacks one of them."""
    pos, neg = _by_score(scores, positive, weights)
    below = np.cumsum(neg, 1) - neg
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((pos * (below + neg / 2)).sum(1) / (pos.sum(1) * neg.sum(1)), np.float64)


def auprc(scores: Floats, positive: NDArray[np.bool_], weights: Floats) -> Floats:
    """(R,): average precision, the mean over positives of the precision at their score. A score
    that says nothing has the share of positives. NaN if a draw lacks positives."""
    pos, neg = (counts[:, ::-1] for counts in _by_score(scores, positive, weights))
    found, said = np.cumsum(pos, 1), np.cumsum(pos + neg, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(said > 0, found / said, 0.0)
        return np.asarray((pos * precision).sum(1) / pos.sum(1), np.float64)


def _by_score(
    scores: Floats, positive: NDArray[np.bool_], weights: Floats
) -> tuple[Floats, Floats]:
    """Weights of positives and negatives (R, G) at each of G distinct scores, ascending."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) > 0)
    if not len(starts) or starts[0] != 0:
        starts = np.append(0, starts)
    ordered, flags = weights[:, order], positive[order]
    return (
        np.add.reduceat(ordered * flags, starts, axis=1),
        np.add.reduceat(ordered * ~flags, starts, axis=1),
    )
