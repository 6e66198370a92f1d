"""Reading to verdict: the only place where a GOOD is made.

Pure functions over the bundle's calibration. A witness's score becomes a p-value among held-out
known parts of the same die; the two combine into one score, which is calibrated again. Under
drift, p-values are taken to have the density xi p^(xi - 1), the alternatives of Sellke, Bayarri and
Berger (2001), *Calibration of p values for testing precise null hypotheses*; the xi is the one
whose AUROC the bundle assumes. So an odd view makes drift likelier than its prior, and an ordinary
one less likely: without the latter no view could ever be sure enough to pass. Classes share the
rest as the softmax of logits / temperature (Guo et al. 2017).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.manifest import ANY_DIE, DriftCalibration, Manifest, ScoreTail
from edge_qc.bundle.verification import Bundle
from edge_qc.parts import (
    DRIFT,
    GOOD,
    NOT_JUDGED,
    Disposition,
    DriftFinding,
    Reading,
    Reason,
    Verdict,
)

_SMALLEST_P = 1e-300


def p_value(tail: ScoreTail, score: float) -> float:
    """The share of held-out known parts that score at least ``score``, in [1e-300, 1].

    Between knots the logarithm of the survival is linear, below the first it is 1, beyond the
    last it falls exponentially.
    """
    if score < tail.scores[0]:
        return 1.0
    if score >= tail.scores[-1]:
        log_p = math.log(tail.survival[-1]) - (score - tail.scores[-1]) / tail.scale
        return max(_SMALLEST_P, math.exp(max(log_p, -700.0)))
    return float(np.exp(np.interp(score, tail.scores, np.log(tail.survival))))


def threshold_at(tail: ScoreTail, alpha: float) -> float:
    """The score at which ``p_value`` is ``alpha``."""
    if alpha <= tail.survival[-1]:
        return tail.scores[-1] + tail.scale * math.log(tail.survival[-1] / alpha)
    log_survival = np.log(tail.survival)
    return float(np.interp(-math.log(alpha), -log_survival, tail.scores))


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
    """How odd a reading is for its die."""

    p_padim = p_value(_tail(calibration.padim, die), reading.drift)
    p_embedding = p_value(_tail(calibration.embedding, die), reading.embedding_distance)
    score = combined_score(calibration.combine, p_padim, p_embedding)
    combined = _tail(calibration.combined, die)
    return DriftFinding(
        score=score,
        p_value=p_value(combined, score),
        threshold=threshold_at(combined, calibration.alpha),
        witness="padim" if p_padim <= p_embedding else "embedding",
        witnesses={"padim": p_padim, "embedding": p_embedding},
    )


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """(C,) probabilities of logits / temperature."""
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max())
    return np.asarray(exponentials / exponentials.sum(), np.float64)


def drift_probability(p: float, calibration: DriftCalibration) -> float:
    """The probability of drift given its p-value."""
    # A drifted part's p-value is below a known one's with the chance 1 / (1 + xi).
    xi = 1.0 / calibration.assumed_auroc - 1.0
    bayes_factor = xi * p ** (xi - 1.0)
    odds = float(calibration.prior / (1 - calibration.prior) * bayes_factor)
    return odds / (1 + odds)


def least_p_to_pass(manifest: Manifest) -> float | None:
    """The p-value of drift below which no view is GOOD, were its class ever so certain; None if
    none is at any."""
    certain = np.array([float(name == GOOD) for name in manifest.classes])
    costs = manifest.cost_matrix()

    def passes(p: float) -> bool:
        if manifest.decision.policy == "threshold":
            return p > manifest.drift.alpha
        drift = drift_probability(p, manifest.drift)
        least = int((np.append(certain * (1 - drift), drift) @ costs).argmin())
        return manifest.labels[least] == GOOD

    if not passes(1.0):
        return None
    low, high = math.log(_SMALLEST_P), 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if passes(math.exp(middle)) else (middle, high)
    return math.exp(high)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What must hold beside a reading before it may become a verdict.

    frame_age_s: seconds since the frame was taken. accepted: the engine reproduced the golden
    answers. running: the station's state lets it judge.
    """

    frame_age_s: float
    max_frame_age_s: float
    accepted: bool
    running: bool


def judge(bundle: Bundle, die: str, reading: Reading, circumstances: Circumstances) -> Verdict:
    """The one door to GOOD: the verdict on a reading, or NOT_JUDGED where it may not be made.

    A reading is finite and of the right shape by its type; the rest is checked here. Pure.
    """
    if not circumstances.accepted:
        return not_judged(bundle.id, Reason.ENGINE, "the engine was not accepted")
    if not circumstances.running:
        return not_judged(bundle.id, Reason.STATE, "the station is not running")
    if not 0 <= circumstances.frame_age_s <= circumstances.max_frame_age_s:
        return not_judged(
            bundle.id,
            Reason.FRAME,
            f"the frame is {circumstances.frame_age_s:.1f} s old, "
            f"wanted at most {circumstances.max_frame_age_s:g} s",
        )
    if die not in bundle.manifest.dies:
        return not_judged(bundle.id, Reason.FRAME, unknown_die(bundle, die))
    return _decide(bundle, die, reading)


def label_of(bundle: Bundle, die: str, reading: Reading) -> str:
    """The label that the bundle's rule gives a reading, for comparing engines; no verdict."""
    return _decide(bundle, die, reading).label


def unknown_die(bundle: Bundle, die: str) -> str:
    """What to say of a die that the model was not trained on."""
    return f"die {die!r} is unknown to the bundle, which knows {', '.join(bundle.manifest.dies)}"


def _decide(bundle: Bundle, die: str, reading: Reading) -> Verdict:
    manifest = bundle.manifest
    finding = find_drift(manifest.drift, die, reading)
    known = softmax(reading.logits, manifest.temperature)
    drift = drift_probability(finding.p_value, manifest.drift)
    posterior = np.append(known * (1 - drift), drift)
    costs = posterior @ manifest.cost_matrix()
    label = _label(manifest, finding, known, costs)
    disposition = manifest.decision.dispositions[label]
    if disposition is not Disposition.REVIEW and _close(manifest, label, costs):
        disposition = Disposition.REVIEW
    return Verdict(
        label=label,
        disposition=disposition,
        reason=Reason.DECIDED,
        bundle_id=bundle.id,
        probabilities={
            name: float(share) for name, share in zip(manifest.labels, posterior, strict=True)
        },
        drift=finding,
        expected_cost={
            name: float(cost) for name, cost in zip(manifest.labels, costs, strict=True)
        },
    )


def not_judged(bundle_id: str, reason: Reason, detail: str) -> Verdict:
    """The verdict on a view that could not be judged: never GOOD, a person looks."""
    return Verdict(
        label=NOT_JUDGED,
        disposition=Disposition.REVIEW,
        reason=reason,
        bundle_id=bundle_id,
        detail=detail,
    )


def _tail(tails: Mapping[str, ScoreTail], die: str) -> ScoreTail:
    """The die's own tail; that of any die where it had too few images for one."""
    return tails[die] if die in tails else tails[ANY_DIE]


def _label(
    manifest: Manifest,
    finding: DriftFinding,
    known: NDArray[np.float64],
    costs: NDArray[np.float64],
) -> str:
    if manifest.decision.policy == "threshold":
        if finding.score >= finding.threshold:
            return DRIFT
        return manifest.classes[int(known.argmax())]
    return manifest.labels[int(costs.argmin())]


def _close(manifest: Manifest, label: str, costs: NDArray[np.float64]) -> bool:
    """Whether another label's disposition is nearly as cheap as this one's."""
    margin = manifest.decision.review_margin
    if margin == 0:
        return False
    dispositions = manifest.decision.dispositions
    mine = costs[manifest.labels.index(label)]
    others = [
        cost
        for name, cost in zip(manifest.labels, costs, strict=True)
        if dispositions[name] is not dispositions[label]
    ]
    return bool(others) and min(others) <= mine * (1 + margin)
