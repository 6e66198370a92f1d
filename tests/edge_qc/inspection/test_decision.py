"""Reading to verdict: calibration, least expected cost, and the one door to GOOD."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_qc.bundle.calibration import ScoreTail
from edge_qc.bundle.manifest import Manifest
from edge_qc.bundle.verification import Bundle
from edge_qc.errors import EdgeQCError
from edge_qc.inspection import decision, findings
from edge_qc.parts import DRIFT, GOOD, NOT_JUDGED, Disposition, Reading, Reason

TAIL = ScoreTail(count=100, scores=(1.0, 2.0, 4.0), survival=(1.0, 0.5, 0.05), scale=2.0)
CLASSES = (GOOD, "flat", "missing")


def bundle(policy: str = "expected-cost", prior: float = 0.01, margin: float = 0.0) -> Bundle:
    tails = {"*": TAIL}
    labels = (*CLASSES, DRIFT)

    def cost(true: str, predicted: str) -> float:
        if true == predicted:
            return 0
        if predicted == GOOD:
            return 10_000
        if true == GOOD:
            return 10_000 if predicted == DRIFT else 100
        return 1000 if DRIFT in (true, predicted) else 1

    manifest = Manifest.model_validate(
        {
            "schema_version": 1,
            "version": 1,
            "name": "test",
            "created": "2026-01-01T00:00:00Z",
            "producer": "test",
            "network": "cnn-basic",
            "classes": CLASSES,
            "dies": {"Die01": {"angle": 0, "box": (0, 0, 8, 8)}},
            "input": {"height": 8, "width": 8, "batch": 1, "mean": [0.5], "std": [0.5]},
            "precision": "fp32",
            "opset": 18,
            "padim": {
                "layers": ["block1"],
                "channels": 4,
                "grid": (2, 2),
                "fit": "pooled",
                "score": "max",
            },
            "temperature": 1.0,
            "drift": {
                "alpha": 0.01,
                "prior": prior,
                "assumed_auroc": 0.9,
                "combine": "padim",
                "padim": tails,
                "embedding": tails,
                "combined": {
                    "*": ScoreTail(
                        count=100,
                        scores=(0.0, math.log(2), math.log(20)),
                        survival=(1.0, 0.5, 0.05),
                        scale=1.0,
                    )
                },
            },
            "decision": {
                "policy": policy,
                "review_margin": margin,
                "dispositions": {
                    GOOD: "PASS",
                    "flat": "REJECT",
                    "missing": "REJECT",
                    DRIFT: "REVIEW",
                },
            },
            "costs": {t: {p: cost(t, p) for p in labels} for t in labels},
            "tolerances": {"logits": 1e-3, "drift": 1e-3, "embedding_distance": 1e-3},
            "files": {
                "model.onnx": {"sha256": "0" * 64, "size": 1},
                "golden.npz": {"sha256": "0" * 64, "size": 1},
            },
        }
    )
    return Bundle(path=Path("/none"), id="0" * 64, manifest=manifest, signed=False)


def reading(logits: tuple[float, ...] = (9.0, 0.0, 0.0), drift: float = 1.0) -> Reading:
    return Reading(
        logits=np.array(logits, np.float32),
        distances=np.ones((2, 2), np.float32),
        drift=drift,
        embedding_distance=1.0,
    )


FINE = decision.Circumstances(frame_age_s=0.1, max_frame_age_s=1.0, accepted=True, running=True)


@given(st.floats(-10, 1e6), st.floats(-10, 1e6))
def test_a_higher_score_is_never_likelier(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert findings.p_value(TAIL, high) <= findings.p_value(TAIL, low)
    assert 0 < findings.p_value(TAIL, high) <= 1


@given(st.floats(1e-12, 0.999))
def test_the_threshold_is_where_the_p_value_is_alpha(alpha: float) -> None:
    score = findings.threshold_at(TAIL, alpha)
    assert findings.p_value(TAIL, score) == pytest.approx(alpha, rel=1e-6)


def test_drift_grows_likelier_with_a_smaller_p() -> None:
    calibration = bundle(prior=0.01).manifest.drift
    shares = [
        decision.drift_probability(p, calibration) for p in (1.0, 0.5, 0.1, 1e-3, 1e-6, 1e-300)
    ]
    assert shares == sorted(shares)
    assert shares[1] < calibration.prior < shares[3], "an ordinary view speaks against drift"
    assert shares[-1] > 0.999


@pytest.mark.parametrize("auroc", [0.5, 0.7, 0.9, 0.99])
def test_the_p_values_of_drift_are_a_density_of_the_assumed_auroc(auroc: float) -> None:
    drift = bundle(prior=0.5).manifest.drift.model_copy(update={"assumed_auroc": auroc})
    edges = np.geomspace(1e-9, 1, 20_001)
    p = np.sqrt(edges[1:] * edges[:-1])
    # At even odds the odds after are the density under drift over the uniform one's.
    density = np.array([s / (1 - s) for s in (decision.drift_probability(x, drift) for x in p)])
    mass = density * np.diff(edges)
    # At AUROCs near 1 not nothing lies below the smallest p.
    below = edges[0] ** (1 / auroc - 1)
    assert mass.sum() + below == pytest.approx(1, abs=1e-3)
    assert ((mass * (1 - p)).sum() + below) == pytest.approx(auroc, abs=1e-3)


def test_where_nothing_can_pass_the_rule_says_so() -> None:
    """A GOOD at 10 000 against 100 wants drift below one in a hundred."""
    limit = decision.least_p_to_pass(bundle(prior=0.01).manifest)
    assert limit is not None
    assert 0.05 < limit < 0.1
    certain = (60.0, 0, 0)
    for p, passes in ((limit * 1.05, True), (limit * 0.95, False)):
        score = findings.threshold_at(TAIL, p)
        verdict = decision.judge(bundle(), "Die01", reading(certain, drift=score), FINE)
        assert (verdict.label == GOOD) is passes
    assert decision.least_p_to_pass(bundle(prior=0.2).manifest) is None
    rule = decision.least_p_to_pass(bundle("threshold", prior=0.2).manifest)
    assert rule == pytest.approx(0.01)


def test_a_certain_good_passes() -> None:
    verdict = decision.judge(bundle(), "Die01", reading((25.0, 0, 0)), FINE)
    assert (verdict.label, verdict.disposition) == (GOOD, Disposition.PASS)
    assert sum(verdict.probabilities.values()) == pytest.approx(1)


def test_doubt_costs_more_than_a_rejected_part() -> None:
    """At 5 % flat the most probable class is GOOD, and the least costly is not."""
    doubtful = reading((3.0, 0.05, -20.0))
    assert decision.judge(bundle("threshold"), "Die01", doubtful, FINE).label == GOOD
    verdict = decision.judge(bundle(), "Die01", doubtful, FINE)
    assert verdict.label != GOOD
    assert verdict.expected_cost[verdict.label] == min(verdict.expected_cost.values())


@pytest.mark.parametrize("policy", ["threshold", "expected-cost"])
def test_what_is_like_no_part_is_drift(policy: str) -> None:
    verdict = decision.judge(bundle(policy), "Die01", reading((25.0, 0, 0), drift=90.0), FINE)
    assert verdict.label == DRIFT
    assert verdict.drift is not None
    assert verdict.drift.score > verdict.drift.threshold
    assert verdict.drift.witness == "padim"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"accepted": False}, Reason.ENGINE),
        ({"running": False}, Reason.STATE),
        ({"frame_age_s": 1.5}, Reason.FRAME),
        ({"frame_age_s": -1.0}, Reason.FRAME),
        ({"frame_age_s": math.nan}, Reason.FRAME),
    ],
)
def test_the_door_to_good_is_shut_in_doubt(change: dict[str, float], reason: Reason) -> None:
    circumstances = decision.Circumstances(
        **{"frame_age_s": 0.1, "max_frame_age_s": 1.0, "accepted": True, "running": True, **change}  # type: ignore[arg-type]
    )
    verdict = decision.judge(bundle(), "Die01", reading((25.0, 0, 0)), circumstances)
    assert (verdict.label, verdict.reason) == (NOT_JUDGED, reason)
    assert verdict.disposition is Disposition.REVIEW


def test_a_die_that_the_model_never_saw_is_not_judged() -> None:
    verdict = decision.judge(bundle(), "Die09", reading((25.0, 0, 0)), FINE)
    assert verdict.label == NOT_JUDGED
    assert "Die09" in verdict.detail


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_reading_that_is_not_finite_cannot_be_made(bad: float) -> None:
    with pytest.raises(EdgeQCError, match="not finite"):
        reading((bad, 0.0, 0.0))
    with pytest.raises(EdgeQCError, match="not finite"):
        reading(drift=bad)


def test_a_close_call_goes_to_review() -> None:
    """GOOD nearly as dear as the cheapest rejection: a person looks."""
    close = reading((4.7, 0.0, -20.0))
    plain = decision.judge(bundle(prior=1e-6), "Die01", close, FINE)
    assert plain.disposition is not Disposition.REVIEW
    reviewed = decision.judge(bundle(prior=1e-6, margin=0.5), "Die01", close, FINE)
    assert reviewed.disposition is Disposition.REVIEW
    assert reviewed.label == plain.label


def gated(
    policy: str = "expected-cost", classes: tuple[str, ...] = CLASSES, good: float = 0.95
) -> Bundle:
    """A bundle of schema 2: the gate opens below -ln p of 4 by two witnesses and the classifier."""
    plain = bundle(policy).manifest.model_dump(mode="json", exclude_none=True)
    labels = (*classes, DRIFT)
    tail = TAIL.model_dump(mode="json")
    defects = [name for name in classes if name != GOOD]
    witnesses = {"padim": {"*": tail}, "embedding": {"*": tail}}
    if defects:
        witnesses["classifier"] = {"*": {**tail, "scores": [-9.0, -6.0, 0.0]}}
    mix = {GOOD: good, DRIFT: 0.01} if defects else {GOOD: 0.99, DRIFT: 0.01}
    mix |= {name: (0.99 - good) / len(defects) for name in defects}
    plain |= {
        "schema_version": 2,
        "classes": classes,
        "gate": {
            "witnesses": witnesses,
            "weights": dict.fromkeys(witnesses, 1.0),
            "threshold": {"*": 4.0},
            "mix": mix,
            "learned": {name: 1 / len(classes) for name in classes},
            **({"evidence": {"slope": 1.0, "offset": -6.0}} if defects else {}),
        },
        "costs": {t: {p: plain["costs"][t][p] for p in labels} for t in labels},
        "decision": {
            "policy": policy,
            "dispositions": {name: plain["decision"]["dispositions"][name] for name in labels},
        },
    }
    return Bundle(Path("/none"), "0" * 64, Manifest.model_validate(plain), signed=False)


def odd(
    padim: float = 0.0, good: float | None = 0.0, logits: tuple[float, ...] = (9.0, 0.0, -1.0)
) -> Reading:
    return Reading(np.array(logits, np.float32), np.ones((2, 2), np.float32), padim, 1.0, good)


@pytest.mark.parametrize("policy", ["threshold", "expected-cost"])
def test_an_ordinary_part_passes_the_gate(policy: str) -> None:
    verdict = decision.judge(gated(policy), "Die01", odd(), FINE)
    assert (verdict.label, verdict.disposition) == (GOOD, Disposition.PASS)
    assert verdict.gate is not None
    assert verdict.gate.score < verdict.gate.threshold == 4.0
    assert sum(verdict.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize("policy", ["threshold", "expected-cost"])
@pytest.mark.parametrize(
    "part",
    [odd(padim=12.0), odd(good=12.0), odd(logits=(0.0, 9.0, 0.0)), odd(good=None)],
    ids=["patches", "embedding", "classifier", "no distance to GOOD"],
)
def test_each_witness_alone_can_shut_the_gate(policy: str, part: Reading) -> None:
    verdict = decision.judge(gated(policy), "Die01", part, FINE)
    assert verdict.label != GOOD
    assert verdict.gate is not None
    assert not verdict.gate.open


@given(st.floats(0, 200), st.floats(0, 200), st.floats(-50, 50), st.floats(-50, 50))
def test_no_part_passes_a_gate_that_is_shut(
    padim: float, good: float, logit: float, other: float
) -> None:
    for policy in ("threshold", "expected-cost"):
        part = odd(padim, good, (logit, other, 0.0))
        verdict = decision.judge(gated(policy, good=0.98), "Die01", part, FINE)
        assert verdict.gate is not None
        assert verdict.label != GOOD or verdict.gate.score < 4.0


def test_a_part_that_costs_too_much_stays_even_where_the_gate_is_open() -> None:
    """On a line of which nearly nothing is GOOD, the same part is not sure enough."""
    part = odd(padim=3.5)
    assert decision.judge(gated(good=0.95), "Die01", part, FINE).label == GOOD
    rare = decision.judge(gated(good=0.05), "Die01", part, FINE)
    assert rare.gate is not None
    assert rare.gate.open
    assert rare.label != GOOD


def test_what_is_stopped_is_named_by_the_classifier() -> None:
    verdict = decision.judge(gated(), "Die01", odd(logits=(0.0, 1.0, 9.0)), FINE)
    assert verdict.label == "missing"
    assert verdict.disposition is Disposition.REJECT


def test_what_is_far_from_every_class_is_drift() -> None:
    far = Reading(np.array((0.0, 9.0, 0.0), np.float32), np.ones((2, 2), np.float32), 90.0, 90, 90)
    assert decision.judge(gated(), "Die01", far, FINE).label == DRIFT


def test_of_good_alone_a_part_is_good_or_drift() -> None:
    alone = gated("threshold", (GOOD,))
    fine = decision.judge(alone, "Die01", odd(logits=(0.0,)), FINE)
    stopped = decision.judge(alone, "Die01", odd(padim=12.0, logits=(0.0,)), FINE)
    assert (fine.label, stopped.label) == (GOOD, DRIFT)
    assert sum(stopped.probabilities.values()) == pytest.approx(1)
