"""How odd a reading is: p-values among labelled parts, and the findings made of them.

A witness's score becomes a p-value among labelled parts of the same die: GOOD ones for the gate,
known ones for drift. For the gate, three witnesses (patches, embedding, classifier) say how unlike
GOOD a view is, and the weighted sum of their -ln p is its score (R. A. Fisher, *Statistical Methods
for Research Workers*, 1932). ``decision`` makes the verdict. Pure functions over the
bundle's calibration.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.calibration import ANY_DIE, DriftCalibration, ScoreTail
from edge_qc.bundle.manifest import Manifest
from edge_qc.parts import GOOD, DriftFinding, GateFinding, Reading

_T = TypeVar("_T")

_SMALLEST_P = 1e-300


def p_value(tail: ScoreTail, score: float) -> float:
    """The share of the tail's parts that score at least ``score``, in [1e-300, 1].

    Between knots the logarithm of the survival is linear, below the first it is 1, beyond the
    last it falls exponentially.
    """
    if score < tail.scores[0]:
        return 1.0
    if score >= tail.scores[-1]:
        log_p = math.log(tail.survival[-1]) - (score - tail.scores[-1]) / tail.scale
        return max(_SMALLEST_P, math.exp(max(log_p, -700.0)))
    return math.exp(-_between(score, tail.scores, tail.surprises))


def threshold_at(tail: ScoreTail, alpha: float) -> float:
    """The score at which ``p_value`` is ``alpha``."""
    if alpha <= tail.survival[-1]:
        return tail.scores[-1] + tail.scale * math.log(tail.survival[-1] / alpha)
    return _between(-math.log(alpha), tail.surprises, tail.scores)


def _between(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """Linear between points, constant beyond them; xs: ascending. In plain Python: NumPy's
    functions let other threads go first, which costs a verdict more than these few numbers."""
    after = bisect_right(xs, x)
    if after == 0:
        return ys[0]
    if after == len(xs):
        return ys[-1]
    x0, y0 = xs[after - 1], ys[after - 1]
    return y0 + (ys[after] - y0) * ((x - x0) / (xs[after] - x0))


def combined_score(rule: str, p_padim: float, p_embedding: float) -> float:
    """The one drift score of two p-values, growing with oddness (see ``DriftCalibration``)."""
    surprise_padim, surprise_embedding = -math.log(p_padim), -math.log(p_embedding)
    if rule == "padim":
        return surprise_padim
    if rule == "embedding":
        return surprise_embedding
    if rule == "fisher":
        return surprise_padim + surprise_embedding
    return max(surprise_padim, surprise_embedding)


def find_drift(calibration: DriftCalibration, die: str, reading: Reading) -> DriftFinding:
    """How unlike every known part a reading is, for its die."""
    p_padim = p_value(of_die(calibration.padim, die), reading.drift)
    p_embedding = p_value(of_die(calibration.embedding, die), reading.embedding_distance)
    score = combined_score(calibration.combine, p_padim, p_embedding)
    combined = of_die(calibration.combined, die)
    return DriftFinding(
        score=score,
        p_value=p_value(combined, score),
        threshold=threshold_at(combined, calibration.alpha),
        witness="padim" if p_padim <= p_embedding else "embedding",
        witnesses={"padim": p_padim, "embedding": p_embedding},
    )


def find_gate(manifest: Manifest, die: str, reading: Reading) -> GateFinding | None:
    """How unlike GOOD a reading is, for its die; None where the bundle has no gate."""
    gate = manifest.gate
    if gate is None:
        return None
    # Doubt is never GOOD: where the engine gave no distance to GOOD, it is as far as can be.
    distance = math.inf if reading.good_distance is None else reading.good_distance
    scores = {"padim": reading.drift, "embedding": distance}
    if "classifier" in gate.witnesses:
        scores["classifier"] = unlike_good(reading.logits, manifest.classes.index(GOOD))
    p_values = {
        name: p_value(of_die(tails, die), scores[name]) for name, tails in gate.witnesses.items()
    }
    return GateFinding(
        score=gate_score(gate.weights, p_values),
        threshold=of_die(gate.threshold, die),
        witnesses=p_values,
    )


def gate_score(weights: Mapping[str, float], p_values: Mapping[str, float]) -> float:
    """The one score of the gate's witnesses, growing with unlikeness to GOOD; by witness."""
    return -sum(weights[name] * math.log(p) for name, p in p_values.items())


def unlike_good(logits: NDArray[np.floating], good: int) -> float:
    """The largest of a defect's logit minus GOOD's: how surely the classifier tells the view from
    GOOD, by the defect that is nearest. good: GOOD's place."""
    values = logits.tolist()
    return float(max(values[:good] + values[good + 1 :]) - values[good])


def of_die(values: Mapping[str, _T], die: str) -> _T:
    """The die's own value; that of any die where it had too few images for one."""
    return values[die] if die in values else values[ANY_DIE]
