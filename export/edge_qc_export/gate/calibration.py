"""From cross-fitted scores to the gate: tails of GOOD, one score, its threshold, what it bounds.

What the numbers mean is said in ``edge_qc.bundle.calibration``; how a station uses them, in
``edge_qc.inspection.findings``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from edge_qc.bundle.calibration import ANY_DIE, Evidence, ScoreTail
from edge_qc.inspection.findings import gate_score, of_die, p_value, threshold_at, unlike_good
from edge_qc.parts import GOOD
from edge_qc_export.figures.calibration import FEWEST, tails_by_die
from edge_qc_export.gate.scored import Scored
from edge_qc_export.gate.threshold import Choice, choose_threshold

WEIGHTS = {"padim": 1.0, "embedding": 0.25, "classifier": 1.0}
"""Chosen by table (docs/decision.md): the embedding's distance to GOOD says little of known defects
and much of what was never seen; at a quarter it keeps the latter and costs no good part."""

_FARTHEST = 60.0
"""Scores beyond are as good as certain, and would alone lead the line through the evidence."""

Tails = Mapping[str, Mapping[str, ScoreTail]]


@dataclass(frozen=True, slots=True)
class Wish:
    """At most ``max_escape`` of bad parts may pass, with ``confidence``. alpha: the share of GOOD
    parts that is stopped if there is no defect to set a threshold by."""

    max_escape: float
    confidence: float
    alpha: float


@dataclass(frozen=True, slots=True, eq=False)
class GateFit:
    """The gate as it was set. scores: (n,) of each labelled part. choice: None where no defect was
    there; its rows are those of all labelled parts."""

    tails: Tails
    threshold: dict[str, float]
    scores: NDArray[np.float64]
    choice: Choice | None
    evidence: Evidence | None


def fit_gate(parts: Scored, wish: Wish, left_out: str | None = None) -> GateFit:
    """Set the gate from scores of parts by what had not learned from them.

    left_out: a defect that counts as never seen.
    Raises DataError if there are too few GOOD parts or scores that do not spread.
    """
    good, known = parts.good, ~parts.is_class(left_out or "")
    fresh = ~parts.seen
    # What the trunk learned from looks more like GOOD than new parts do.
    own = good & fresh if (good & fresh).sum() >= FEWEST else good
    witnesses = witness_scores(parts)
    if not (~good & known).any():
        witnesses.pop("classifier", None)
    dies = np.asarray(parts.dies)
    tails = {
        name: tails_by_die(values[own], tuple(dies[own]), f"the gate's witness {name!r}")
        for name, values in witnesses.items()
    }
    joined = scores_by(tails, parts)
    if "classifier" not in witnesses:
        by_die = tails_by_die(joined[own], tuple(dies[own]), "the gate's score")
        limits = {die: threshold_at(tail, wish.alpha) for die, tail in by_die.items()}
        return GateFit(tails, limits, joined, None, None)
    choice = _choose(joined, good, known, fresh, wish)
    rows = known & fresh
    if (rows & good).sum() < FEWEST or (rows & ~good).sum() < FEWEST:
        rows = known
    return GateFit(
        tails,
        {ANY_DIE: choice.threshold},
        joined,
        choice,
        evidence_from_scores(joined[rows], good[rows]),
    )


def _choose(
    scores: NDArray[np.float64],
    good: NDArray[np.bool_],
    known: NDArray[np.bool_],
    fresh: NDArray[np.bool_],
    wish: Wish,
) -> Choice:
    """The stricter of what all bad parts ask for, and those that the trunk never learned from."""
    choices = []
    for chosen in (known, known & fresh):
        rows = np.flatnonzero(chosen)
        if good[rows].all() or not good[rows].any():
            continue
        choice = choose_threshold(scores[rows], good[rows], wish.max_escape, wish.confidence)
        choices.append((choice.threshold, rows, choice))
    _, rows, choice = min(choices, key=lambda found: found[0])
    return choice.of_rows(rows)


def witness_scores(parts: Scored) -> dict[str, NDArray[np.float64]]:
    """(n,) of each witness: what its tail is fitted on."""
    found = {"padim": parts.padim, "embedding": parts.good_distance}
    if len(parts.classes) > 1:
        place = parts.classes.index(GOOD)
        found["classifier"] = np.array([unlike_good(row, place) for row in parts.logits])
    return found


def scores_by(tails: Tails, parts: Scored) -> NDArray[np.float64]:
    """(n,): the gate's score of each part, as ``find_gate`` reckons it."""
    witnesses = witness_scores(parts)
    weights = {name: WEIGHTS[name] for name in tails}
    return np.array(
        [
            gate_score(
                weights,
                {
                    name: p_value(of_die(of_dies, die), float(witnesses[name][row]))
                    for name, of_dies in tails.items()
                },
            )
            for row, die in enumerate(parts.dies)
        ]
    )


def evidence_from_scores(scores: NDArray[np.float64], good: NDArray[np.bool_]) -> Evidence:
    """Logistic regression of bad against GOOD at even odds, with a unit normal prior on the slope
    (a nat of the score is a nat of evidence), which keeps parts that are told apart without a fault
    from being certain."""
    x = np.minimum(scores, _FARTHEST)[:, None]
    line = LogisticRegression(C=1.0, class_weight="balanced").fit(x, ~good)
    slope = float(line.coef_[0, 0])
    if slope <= 0:
        return Evidence(slope=0.0, offset=0.0)
    return Evidence(slope=slope, offset=float(line.intercept_[0]))
