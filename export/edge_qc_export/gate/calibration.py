"""From cross-fitted scores to the gate: tails of GOOD, one score, its threshold, what it bounds.

What the numbers mean is said in ``edge_qc.bundle.calibration``; how a station uses them, in
``edge_qc.inspection.findings``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from edge_qc.bundle.calibration import ANY_DIE, Evidence, ScoreTail
from edge_qc.inspection.findings import gate_score, of_die, p_value, threshold_at, unlike_good
from edge_qc.parts import GOOD
from edge_qc_export.figures.calibration import FEWEST, tails_by_die
from edge_qc_export.figures.exact import most_by_chance
from edge_qc_export.gate.scored import Scored
from edge_qc_export.gate.threshold import Choice, Wish, choose_threshold, tightened

WEIGHTS = {"padim": 1.0, "embedding": 0.25, "classifier": 1.0}
"""Chosen by table (docs/decision.md): the embedding's distance to GOOD says little of known defects
and much of what was never seen; at a quarter it keeps the latter and costs no good part."""

_FARTHEST = 60.0
"""Scores beyond are as good as certain, and would alone lead the line through the evidence."""

Tails = Mapping[str, Mapping[str, ScoreTail]]


@dataclass(frozen=True, slots=True, eq=False)
class GateFit:
    """The gate as it was set. scores: (n,) of each labelled part. choice: None where no defect was
    there; its rows are those of all labelled parts. open: (n,), whether the gate lets each pass."""

    tails: Tails
    threshold: dict[str, float]
    scores: NDArray[np.float64]
    choice: Choice | None
    evidence: Evidence | None
    open: NDArray[np.bool_]


def fit_gate(parts: Scored, wish: Wish, left_out: str | None = None) -> GateFit:
    """Set the gate from scores of parts by what had not learned from them.

    left_out: a defect that counts as never seen. Raises DataError if there are too few GOOD parts
    or scores that do not spread.
    """
    known = ~parts.is_class(left_out or "")
    tails = fit_tails(parts, told_apart=bool((~parts.good & known).any()))
    scores = scores_by(tails, parts)
    threshold, choice = set_threshold(parts, scores, wish, known)
    evidence = None if choice is None else evidence_of(parts, scores, known)
    return GateFit(tails, threshold, scores, choice, evidence, below(threshold, parts.dies, scores))


def fit_tails(parts: Scored, *, told_apart: bool) -> Tails:
    """Each witness's tails of GOOD. told_apart: whether a defect is known, and the classifier a
    witness. Raises DataError as ``fit_gate``."""
    witnesses = witness_scores(parts)
    if not told_apart:
        witnesses.pop("classifier", None)
    own = _own(parts)
    dies = tuple(np.asarray(parts.dies)[own])
    return {
        name: tails_by_die(values[own], dies, f"the gate's witness {name!r}")
        for name, values in witnesses.items()
    }


def _own(parts: Scored) -> NDArray[np.bool_]:
    """The GOOD parts that say what GOOD is like: what the trunk learned from looks more like it
    than new parts do."""
    fresh = parts.good & ~parts.seen
    return fresh if fresh.sum() >= FEWEST else parts.good


def set_threshold(
    parts: Scored,
    scores: NDArray[np.float64],
    wish: Wish,
    known: NDArray[np.bool_],
    added: NDArray[np.bool_] | None = None,
) -> tuple[dict[str, float], Choice | None]:
    """By die, the threshold of the gate's scores (n,), and how it was chosen; None where no known
    part is bad, and then it stops ``alpha`` of GOOD.

    It is the stricter of what all ``known`` bad parts ask for, and those that the trunk never
    learned from. Of the bad parts that were ``added`` to those that the model was made with, no
    more pass than chance explains under the wish. A model of GOOD alone keeps its share of GOOD
    too. Raises DataError as ``fit_gate``.
    """
    limits: dict[str, float] = {}
    defects = (~parts.good & known).any()
    if not defects or len(parts.classes) == 1:
        own = _own(parts)
        tails = tails_by_die(scores[own], tuple(np.asarray(parts.dies)[own]), "the gate's score")
        limits = {die: threshold_at(tail, wish.alpha) for die, tail in tails.items()}
        if not defects:
            return limits, None
    choices = []
    for chosen in (known, known & ~parts.seen):
        rows = np.flatnonzero(chosen)
        if parts.good[rows].all() or not parts.good[rows].any():
            continue
        choice = choose_threshold(scores[rows], parts.good[rows], wish.max_escape, wish.confidence)
        choices.append((choice.threshold, rows, choice))
    threshold, rows, choice = min(choices, key=lambda found: found[0])
    if added is not None:
        threshold = min(threshold, _unsurprising(scores[added & ~parts.good], wish))
    bad = scores[rows][~parts.good[rows]]
    choice = tightened(choice.of_rows(rows), threshold, bad, wish.confidence)
    limits = {die: min(limit, threshold) for die, limit in (limits or {ANY_DIE: threshold}).items()}
    return limits, choice


def _unsurprising(bad: NDArray[np.float64], wish: Wish) -> float:
    """The threshold below which as many of these bad parts pass as chance still explains."""
    most = most_by_chance(len(bad), wish.max_escape, wish.confidence)
    return float(np.sort(bad)[most]) if most < len(bad) else math.inf


def evidence_of(parts: Scored, scores: NDArray[np.float64], known: NDArray[np.bool_]) -> Evidence:
    """From the parts that the trunk never learned from, if they are enough."""
    rows = known & ~parts.seen
    if (rows & parts.good).sum() < FEWEST or (rows & ~parts.good).sum() < FEWEST:
        rows = known
    return evidence_from_scores(scores[rows], parts.good[rows])


def below(
    threshold: Mapping[str, float], dies: Sequence[str], scores: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """(n,): whether each score is below its die's threshold, so that the gate is open."""
    return np.asarray(scores < np.array([of_die(threshold, die) for die in dies]))


def witness_scores(parts: Scored) -> dict[str, NDArray[np.float64]]:
    """(n,) of each witness: what its tail is fitted on."""
    found = {"padim": parts.padim, "embedding": parts.good_distance}
    if len(parts.classes) > 1:
        place = parts.classes.index(GOOD)
        found["classifier"] = np.array([unlike_good(row, place) for row in parts.logits])
    return found


def scores_by(
    tails: Tails, parts: Scored, weights: Mapping[str, float] = WEIGHTS
) -> NDArray[np.float64]:
    """(n,): the gate's score of each part, as ``find_gate`` reckons it."""
    witnesses = witness_scores(parts)
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
