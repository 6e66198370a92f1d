"""The gate's threshold: the loosest for which few enough labelled bad parts pass.

Neyman-Pearson classification (Tong, Feng and Li 2018, *Neyman-Pearson classification algorithms and
NP receiver operating characteristics*): with the threshold at an order statistic of the bad parts'
scores, the share of bad parts that passes is bounded with a stated confidence, whatever the scores'
distribution. Each part counts once, of whatever class. Pure functions over scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_qc_export.figures.exact import upper_bound

WORTH = 0.1
"""The share of GOOD parts that one odd bad part may cost before it is let pass."""

SHOWN = 5
"""How many of the bad parts that look most like GOOD are named."""


@dataclass(frozen=True, slots=True)
class Wish:
    """At most ``max_escape`` of bad parts may pass, with ``confidence``. alpha: the share of GOOD
    parts that is stopped if there is no defect to set a threshold by."""

    max_escape: float
    confidence: float
    alpha: float


@dataclass(frozen=True, slots=True)
class Step:
    """The threshold at one bad part. row: the part's; passed: how many bad parts score below it;
    yield_: the share of GOOD parts that does; at_most: the share of bad parts that this bounds."""

    row: int
    score: float
    passed: int
    yield_: float
    at_most: float


@dataclass(frozen=True, slots=True)
class Choice:
    """threshold: the gate is open below it. passed: how many of the ``bad`` parts score below it;
    at_most: the share of bad parts that this bounds. steps: the thresholds at the bad parts most
    like GOOD, in order."""

    threshold: float
    passed: int
    bad: int
    at_most: float
    steps: tuple[Step, ...]

    def of_rows(self, rows: NDArray[np.intp]) -> Choice:
        """The same, with each step's row told as the place in ``rows`` that it stands for."""
        steps = tuple(replace(step, row=int(rows[step.row])) for step in self.steps)
        return replace(self, steps=steps)


def allowed(bad: int, max_escape: float, confidence: float) -> int | None:
    """How many of ``bad`` labelled bad parts may pass so that escapes are at most ``max_escape``
    with ``confidence``; None where not even none suffices."""
    count = -1
    while count + 1 < bad and upper_bound(count + 1, bad, confidence) <= max_escape:
        count += 1
    return None if count < 0 else count


def choose_threshold(
    scores: NDArray[np.floating], good: NDArray[np.bool_], max_escape: float, confidence: float
) -> Choice:
    """The threshold for cross-fitted scores (n,) of labelled parts, some of them bad.

    With enough bad parts, as many pass as the bound lets. With too few, none
    passes, but for odd ones: as long as their share stays within ``max_escape``, a bad part is let
    pass where it alone would cost ``WORTH`` of the GOOD parts.
    """
    bad = np.flatnonzero(~good)
    order = bad[np.argsort(scores[bad], kind="stable")]
    count, fine = len(order), np.sort(scores[good])

    def step(passed: int) -> Step:
        score = float(scores[order[passed]])
        return Step(
            row=int(order[passed]),
            score=score,
            passed=passed,
            yield_=float(np.searchsorted(fine, score)) / max(1, len(fine)),
            at_most=upper_bound(passed, count, confidence),
        )

    passed = allowed(count, max_escape, confidence)
    if passed is None:
        most = min(math.floor(max_escape * count), count - 1)
        yields = [step(k).yield_ for k in range(most + 1)]
        # The last part that costs so much is passed over, and with it those before it.
        dear = [k for k in range(most) if yields[k + 1] - yields[k] >= WORTH]
        passed = dear[-1] + 1 if dear else 0
    taken = step(passed)
    # Equal scores pass together or not at all.
    below = int((scores[bad] < taken.score).sum())
    return Choice(
        threshold=taken.score,
        passed=below,
        bad=count,
        at_most=upper_bound(below, count, confidence),
        steps=tuple(step(k) for k in range(min(count, max(SHOWN, passed + 2)))),
    )


def tightened(
    choice: Choice, threshold: float, bad: NDArray[np.floating], confidence: float
) -> Choice:
    """The same with a threshold that is not looser. bad: (n,) scores of the bad parts that it
    counts."""
    if threshold >= choice.threshold:
        return choice
    below = int((bad < threshold).sum())
    at_most = upper_bound(below, len(bad), confidence)
    return replace(choice, threshold=threshold, passed=below, at_most=at_most)


def trade_off(scores: NDArray[np.floating], good: NDArray[np.bool_]) -> list[tuple[int, float]]:
    """What each threshold would let pass, from the strictest on: how many bad parts, and the share
    of GOOD parts that is stopped. One point for each share; some of the parts (n,) are bad."""
    bad, fine = np.sort(scores[~good]), np.sort(scores[good])
    stopped = 1.0 - np.searchsorted(fine, bad, side="left") / max(1, len(fine))
    points = [(k, float(share)) for k, share in enumerate(stopped)] + [(len(bad), 0.0)]
    return [point for k, point in enumerate(points) if k == 0 or point[1] < points[k - 1][1]]


def traded(
    scores: NDArray[np.floating], good: NDArray[np.bool_], passes: NDArray[np.bool_]
) -> dict[str, Any]:
    """``trade_off`` and the threshold that was chosen, as a bundle's report holds them. passes:
    (n,), what the chosen one lets pass."""
    return {
        "good": int(good.sum()),
        "bad": int((~good).sum()),
        "chosen": [int((passes & ~good).sum()), float((~passes & good).sum() / good.sum())],
        "points": [list(point) for point in trade_off(scores, good)],
    }
