"""Every figure comes with an interval that covers what it should."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from edge_qc.parts import DRIFT
from edge_qc_export.data.dataset import CHALLENGE_CLASSES
from edge_qc_export.figures.costs import challenge_costs
from edge_qc_export.figures.metrics import FIGURES
from edge_qc_export.figures.scoring import score, wilson

COSTS = challenge_costs(CHALLENGE_CLASSES)


def noisy(count: int, seed: int, error: float = 0.2) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(seed)
    truth = rng.choice(CHALLENGE_CLASSES, count, p=[0.3, 0.1, 0.1, 0.1, 0.3, 0.1]).tolist()
    said = [t if rng.random() > error else str(rng.choice(CHALLENGE_CLASSES)) for t in truth]
    return truth, said


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        (0, 20, 0.0, 0.161125),
        (1, 20, 0.008881, 0.236131),
        (7, 9, 0.452589, 0.936775),
        (50, 50, 0.928652, 1.0),
        (480, 1000, 0.449171, 0.510982),
    ],
)
def test_wilsons_interval_is_scipys(right: int, n: int, low: float, high: float) -> None:
    """As scipy.stats.binomtest(...).proportion_ci(0.95, "wilson") says."""
    found = wilson(right, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=2e-6)


def test_no_escape_among_few_parts_is_no_proof_that_there_are_none() -> None:
    truth = ["GOOD"] * 10 + ["Missing"] * 10
    escape = score(truth, truth, COSTS).figures["escape_rate"]
    assert escape.value == 0
    assert escape.low == 0
    assert escape.high == pytest.approx(0.2775, abs=1e-4)


def test_every_figure_lies_within_its_interval() -> None:
    truth, said = noisy(200, 0)
    found = score(truth, said, COSTS, confidence=np.full(200, 0.7))
    assert set(found.figures) == {*FIGURES, "calibration_error"}
    for name, figure in found.figures.items():
        assert figure.low <= figure.value <= figure.high, name
        assert figure.low < figure.high, name


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """60 sets from a source whose figures are known from a very large one. Costs rest on a few
    rare escapes, so that their intervals are somewhat too narrow."""
    large = score(*noisy(40_000, 99), COSTS)
    names = ("macro_f1", "pwa_report", "pwa_balanced", "accuracy")
    held = dict.fromkeys(names, 0)
    for seed in range(60):
        found = score(*noisy(300, seed), COSTS)
        for name in names:
            figure = found.figures[name]
            held[name] += figure.low <= large.figures[name].value <= figure.high
    assert min(held["macro_f1"], held["accuracy"]) >= 54, held
    assert min(held["pwa_report"], held["pwa_balanced"]) >= 45, held


def test_the_same_predictions_have_the_same_intervals() -> None:
    truth, said = noisy(100, 0)
    assert score(truth, said, COSTS).figures == score(truth, said, COSTS).figures


def test_drift_is_rated_where_it_is_among_the_images() -> None:
    truth = ["GOOD"] * 30 + [DRIFT] * 10
    drift_scores = np.concatenate([np.arange(30.0), np.arange(25.0, 35.0)])
    found = score(truth, ["GOOD"] * 40, COSTS, drift_scores=drift_scores)
    assert found.figures["drift_auroc"].value == pytest.approx(1 - 12.5 / 300)
    assert found.figures["drift_auroc"].low < found.figures["drift_auroc"].value
    assert DRIFT in found.labels
    assert found.collapsed


def test_a_class_is_told_by_its_images_recall_precision_and_cost() -> None:
    truth = ["GOOD", "GOOD", "Missing", "Missing", "Missing"]
    said = ["GOOD", "Missing", "Missing", "Missing", "GOOD"]
    row = score(truth, said, COSTS).by_class["Missing"]
    assert row.images == 3
    assert (row.recall.value, row.precision) == pytest.approx((2 / 3, 2 / 3))
    assert row.mean_cost == pytest.approx(10000 / 3)
    absent = score(truth, said, COSTS).by_class["Lift-off noir"]
    assert absent.images == 0
    assert math.isnan(absent.recall.value)


def test_the_json_document_holds_the_named_keys_and_no_nan() -> None:
    truth, said = ["GOOD", "GOOD"], ["GOOD", "Missing"]
    document = json.loads(json.dumps(score(truth, said, COSTS).as_json(), allow_nan=False))
    for name in FIGURES:
        low, high = document["intervals"][name]
        if document[name] is not None and low is not None:
            assert low <= document[name] <= high
    assert document["escape_rate"] is None, "there is no bad part that could escape"
    assert document["overkill_rate"] == 0.5
    assert document["confusion"]["GOOD"]["Missing"] == 1
