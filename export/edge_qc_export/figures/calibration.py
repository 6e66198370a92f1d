"""From held-out answers to thresholds: temperature, and the tails of the drift scores.

Temperature scaling is Guo, Pleiss, Sun and Weinberger (2017), *On Calibration of Modern Neural
Networks*. A tail keeps at most ``KNOTS`` points of the held-out scores; its upper tenth is an
exponential of the scores' mean excess (peaks over a threshold; Pickands 1975). What a tail means
is said in ``edge_qc.bundle.manifest.ScoreTail``, how it is used in
``edge_qc.inspection.decision``. Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.calibration import ANY_DIE, DriftCalibration, ScoreTail
from edge_qc.errors import DataError
from edge_qc.inspection.findings import combined_score, p_value

Combine = Literal["padim", "embedding", "fisher", "max"]

KNOTS = 48
FEWEST = 30
"""Images of all dies together that a tail needs."""
FEWEST_OF_A_DIE = 60
"""Images of a die that earn it a tail of its own."""

_TAIL_SHARE = 0.1
_FEWEST_EXCESSES = 8
_TEMPERATURES = 0.05, 100.0
_FEWEST_ERRORS = 5


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature, in [0.05, 100], at which the held-out negative log-likelihood is least.

    logits: (n, C); labels: (n,) of class. It is convex in 1 / T and so has
    one valley in log T, which the golden section finds. With fewer than five wrong answers it is at
    least 1: where all are right the least loss is at the lowest temperature there is, whatever the
    network, and a sureness that no error was ever seen to bound would pass bad parts.
    """
    scores = np.asarray(logits, np.float64)
    errors = int((scores.argmax(axis=1) != np.asarray(labels)).sum())
    lowest = _TEMPERATURES[0] if errors >= _FEWEST_ERRORS else 1.0
    rows = np.arange(len(scores))

    def loss(log_temperature: float) -> float:
        scaled = scores / math.exp(log_temperature)
        top = scaled.max(axis=1)
        partition = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float(np.mean(partition - scaled[rows, labels]))

    low, high = math.log(lowest), math.log(_TEMPERATURES[1])
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(60):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = loss(right)
    return math.exp((low + high) / 2)


def too_few_for_a_bundle(good: int) -> str | None:
    """What to say before training, and before a fit, where no threshold could be set; None if there
    are enough. good: labelled GOOD images."""
    if good >= FEWEST:
        return None
    return (
        f"too few images for a bundle: {good} are GOOD, and 'edge-qc export' wants at least "
        f"{FEWEST} to set a threshold. This run can be evaluated, not exported"
    )


def tail_from_scores(scores: NDArray[np.floating], what: str, needed: int = FEWEST) -> ScoreTail:
    """How often labelled parts score at least so much.

    what: named in errors. Raises DataError if there are fewer scores than ``needed``, one is not
    finite, or they hardly differ.
    """
    values = np.sort(np.asarray(scores, np.float64))
    count = len(values)
    if count < needed:
        raise DataError(
            f"{what}: {count} images, wanted at least {needed} to set a threshold. Add labelled "
            "images"
        )
    if not np.isfinite(values).all():
        raise DataError(f"{what}: a score is not finite. Train the network again")
    excesses = max(_FEWEST_EXCESSES, round(_TAIL_SHARE * count))
    last = count - excesses
    spread = float(values[-1] - values[0])
    scale = float(np.mean(values[last:] - values[last - 1]))
    distinct = len(np.unique(values))
    if spread <= 1e-9 * max(1.0, abs(float(values[-1]))) or distinct < 10 or scale <= 0:
        raise DataError(
            f"{what}: degenerate scores: {distinct} different values of {count} between "
            f"{values[0]:.6g} and {values[-1]:.6g}, wanted at least 10 that spread up to the top. "
            "No threshold can be set from these: the network tells the images hardly apart"
        )
    # Evenly in the body, finer towards the upper tail, where decisions fall.
    shares = np.linspace(0, 1, KNOTS) ** 0.5
    places = np.unique(np.round(shares * (last - 1)).astype(int))
    knots: list[float] = []
    survival: list[float] = []
    for place in places.tolist():
        score = float(values[place])
        if knots and score <= knots[-1]:
            continue
        at_least = count - int(np.searchsorted(values, score, side="left"))
        knots.append(score)
        survival.append(at_least / (count + 1))
    if len(knots) < 2:
        raise DataError(
            f"{what}: degenerate scores: nine in ten of {count} images score "
            f"{values[0]:.6g}. No threshold can be set from these"
        )
    return ScoreTail(count=count, scores=tuple(knots), survival=tuple(survival), scale=scale)


def tails_by_die(
    scores: NDArray[np.floating], dies: Sequence[str], what: str
) -> dict[str, ScoreTail]:
    """A tail for any die, and one for every die with enough images whose scores are not
    degenerate."""
    tails = {ANY_DIE: tail_from_scores(scores, what)}
    names = np.asarray(dies)
    for die in sorted(set(dies)):
        own = scores[names == die]
        if len(own) >= FEWEST_OF_A_DIE:
            tails[die] = tail_from_scores(own, f"{what} of {die}", FEWEST_OF_A_DIE)
    return tails


def calibrate_drift(
    padim: NDArray[np.floating],
    embedding: NDArray[np.floating],
    dies: Sequence[str],
    *,
    combine: Combine,
    alpha: float,
    prior: float,
    assumed_auroc: float,
) -> DriftCalibration:
    """Tails of both witnesses and of their combination over held-out known parts.

    padim, embedding: (n,) scores; dies: n names. alpha: share of known parts called drift at the
    threshold; prior, assumed_auroc: see ``DriftCalibration``. Raises DataError as
    ``tail_from_scores``.
    """
    padim_tails = tails_by_die(padim, dies, "PaDiM's drift score")
    embedding_tails = tails_by_die(embedding, dies, "the embedding's distance")
    combined = combined_scores(combine, padim_tails, embedding_tails, padim, embedding, dies)
    return DriftCalibration(
        alpha=alpha,
        prior=prior,
        assumed_auroc=assumed_auroc,
        combine=combine,
        padim=padim_tails,
        embedding=embedding_tails,
        combined=tails_by_die(combined, dies, "the combined drift score"),
    )


def combined_scores(
    combine: str,
    padim_tails: Mapping[str, ScoreTail],
    embedding_tails: Mapping[str, ScoreTail],
    padim: NDArray[np.floating],
    embedding: NDArray[np.floating],
    dies: Sequence[str],
) -> NDArray[np.float64]:
    """(n,): the one score of both witnesses, each by its die's tail if it has one."""
    return np.array(
        [
            combined_score(
                combine,
                p_value(padim_tails.get(die, padim_tails[ANY_DIE]), float(p)),
                p_value(embedding_tails.get(die, embedding_tails[ANY_DIE]), float(e)),
            )
            for p, e, die in zip(padim, embedding, dies, strict=True)
        ]
    )
