"""Reading to verdict: the only place where a GOOD is made.

Two questions, asked apart. *May this part pass?* is answered by the gate (``findings``), whose
threshold bounds how many bad parts pass. *What is it then?* is answered by the classes and by
drift, at least expected cost. A part passes where the gate is open and GOOD is also the cheapest
label.

The posterior comes from scores that were cross-fitted, at the line's shares of the labels: what is
not GOOD by the gate's own score, how much of that is drift by the embedding's distance to the
nearest class, and the rest by the classifier's logits over a temperature (Guo et al. 2017). Under
drift, p-values are taken to have the density xi p^(xi - 1), the alternatives of Sellke, Bayarri and
Berger (2001), *Calibration of p values for testing precise null hypotheses*, with the xi of the
bundle's AUROC. In bundles of schema 1 no gate stands before GOOD: there drift takes its share of
all classes alike.

In plain Python: for numbers so few NumPy takes longer, and lets other threads go first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge_qc.bundle.calibration import DriftCalibration, GateCalibration
from edge_qc.bundle.manifest import Manifest
from edge_qc.bundle.verification import Bundle
from edge_qc.inspection.findings import find_drift, find_gate
from edge_qc.parts import (
    DRIFT,
    GOOD,
    NOT_JUDGED,
    Disposition,
    DriftFinding,
    GateFinding,
    Reading,
    Reason,
    Verdict,
)

_SMALLEST_P = 1e-300
_LARGEST_LOG_ODDS = 700.0


def softmax(logits: Sequence[float], temperature: float) -> list[float]:
    """The probabilities of logits / temperature."""
    largest = max(logits)
    exponentials = [math.exp((logit - largest) / temperature) for logit in logits]
    total = sum(exponentials)
    return [exponential / total for exponential in exponentials]


def bayes_factor(p: float, auroc: float) -> float:
    """How much likelier drift makes this p-value than a known part does.

    A drifted part's p-value is below a known one's with the chance ``auroc`` = 1 / (1 + xi).
    """
    xi = 1.0 / auroc - 1.0
    return xi * float(p ** (xi - 1.0))


def drift_probability(p: float, calibration: DriftCalibration, prior: float | None = None) -> float:
    """The probability of drift given its p-value. prior: in place of the calibration's."""
    before = calibration.prior if prior is None else prior
    odds = before / (1 - before) * bayes_factor(p, calibration.assumed_auroc)
    return odds / (1 + odds)


def log_odds_against_good(gate: GateCalibration, drift: DriftCalibration, score: float) -> float:
    """ln of the odds that a view with this gate score is not GOOD, at the line's shares."""
    good = gate.mix[GOOD]
    prior = math.log((1 - good) / good)
    if gate.evidence is not None:
        return prior + gate.evidence.offset + gate.evidence.slope * score
    # No defect was there to learn from: -score is taken for the logarithm of a p-value among GOOD
    # parts, and drift told from them as well as is assumed.
    p = max(_SMALLEST_P, math.exp(-min(score, _LARGEST_LOG_ODDS)))
    return prior + math.log(bayes_factor(p, drift.assumed_auroc))


def posterior_of(
    manifest: Manifest, reading: Reading, gate: GateFinding | None, drift: DriftFinding
) -> list[float]:
    """The probability of each label, in the order of ``manifest.labels``."""
    calibration = manifest.gate
    logits = reading.logits.tolist()
    if calibration is None or gate is None:
        odd = drift_probability(drift.p_value, manifest.drift)
        known = softmax(logits, manifest.temperature)
        return [share * (1 - odd) for share in known] + [odd]
    against = log_odds_against_good(calibration, manifest.drift, gate.score)
    bad = 1 / (1 + math.exp(-min(max(against, -_LARGEST_LOG_ODDS), _LARGEST_LOG_ODDS)))
    place = manifest.classes.index(GOOD)
    shares = [0.0] * len(manifest.labels)
    shares[place] = 1 - bad
    if len(manifest.classes) == 1:
        shares[-1] = bad
        return shares
    mix = calibration.mix
    prior = mix[DRIFT] / (1 - mix[GOOD])
    odd = drift_probability(drift.p_value, manifest.drift, prior) if prior < 1 else 1.0
    shares[-1] = bad * odd
    defects = [i for i in range(len(manifest.classes)) if i != place]
    names = [manifest.classes[i] for i in defects]
    likely = softmax([logits[i] for i in defects], manifest.temperature)
    weights = [
        share * mix[name] / calibration.learned[name]
        for share, name in zip(likely, names, strict=True)
    ]
    if not sum(weights) > 0:  # the line makes none of the likely ones
        weights = [mix[name] + 1e-12 for name in names]
    total = sum(weights)
    for i, weight in zip(defects, weights, strict=True):
        shares[i] = bad * (1 - odd) * weight / total
    return shares


def _expected(manifest: Manifest, posterior: Sequence[float]) -> list[float]:
    """The expected cost of each label, in the order of ``manifest.labels``."""
    columns = zip(*manifest.cost_rows, strict=True)
    return [sum(p * cost for p, cost in zip(posterior, column, strict=True)) for column in columns]


def least_p_to_pass(manifest: Manifest) -> float | None:
    """The p-value of drift below which no view is GOOD, were its class ever so certain; None where
    none is at any. Of bundles of schema 1, which have no gate."""
    certain = [float(name == GOOD) for name in manifest.classes]

    def passes(p: float) -> bool:
        if manifest.decision.policy == "threshold":
            return p > manifest.drift.alpha
        drift = drift_probability(p, manifest.drift)
        costs = _expected(manifest, [share * (1 - drift) for share in certain] + [drift])
        return manifest.labels[costs.index(min(costs))] == GOOD

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


def disposition_of(manifest: Manifest, label: str, costs: Sequence[float]) -> Disposition:
    """What the line does with a part of this label; costs: expected, in the order of
    ``manifest.labels``. REVIEW where another label's disposition costs hardly more."""
    disposition = manifest.decision.dispositions[label]
    return Disposition.REVIEW if _close(manifest, label, costs) else disposition


def unknown_die(bundle: Bundle, die: str) -> str:
    """What to say of a die that the model was not trained on."""
    return f"die {die!r} is unknown to the bundle, which knows {', '.join(bundle.manifest.dies)}"


def _decide(bundle: Bundle, die: str, reading: Reading) -> Verdict:
    manifest = bundle.manifest
    gate = find_gate(manifest, die, reading)
    drift = find_drift(manifest.drift, die, reading)
    posterior = posterior_of(manifest, reading, gate, drift)
    costs = _expected(manifest, posterior)
    label = _label(manifest, gate, drift, posterior, costs)
    return Verdict(
        label=label,
        disposition=disposition_of(manifest, label, costs),
        reason=Reason.DECIDED,
        bundle_id=bundle.id,
        probabilities=dict(zip(manifest.labels, posterior, strict=True)),
        drift=drift,
        gate=gate,
        expected_cost=dict(zip(manifest.labels, costs, strict=True)),
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


def _label(
    manifest: Manifest,
    gate: GateFinding | None,
    drift: DriftFinding,
    posterior: Sequence[float],
    costs: Sequence[float],
) -> str:
    """The cheapest label, or by ``threshold`` drift above its threshold, else the likeliest class;
    GOOD only where the gate is open, or if there is none (schema 1)."""
    labels = list(manifest.labels)
    shut = gate is not None and not gate.open
    if manifest.decision.policy == "threshold":
        if gate is not None and gate.open:
            return GOOD
        if drift.score >= drift.threshold or (shut and len(manifest.classes) == 1):
            return DRIFT
        ranks = [-share for share in posterior[:-1]]
    else:
        ranks = list(costs)
    if shut:
        ranks[labels.index(GOOD)] = math.inf
    return labels[ranks.index(min(ranks))]


def _close(manifest: Manifest, label: str, costs: Sequence[float]) -> bool:
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
