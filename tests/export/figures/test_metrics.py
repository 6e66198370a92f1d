"""The figures are what their names say, and the new one is not fooled by a constant."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from edge_qc.errors import DataError
from edge_qc.parts import DRIFT
from edge_qc_export.data.dataset import CHALLENGE_CLASSES
from edge_qc_export.figures.costs import challenge_costs
from edge_qc_export.figures.metrics import (
    best_constant,
    collapsed,
    confusion_matrix,
    figures,
    least_cost_labels,
    present_labels,
)

COSTS = challenge_costs(CHALLENGE_CLASSES)
REPORT_COUNTS = dict(zip(CHALLENGE_CLASSES, (1235, 71, 270, 104, 6472, 126), strict=True))
REPORT_TRUTH = [label for label, count in REPORT_COUNTS.items() for _ in range(count)]

labels_lists = st.lists(
    st.tuples(st.sampled_from(CHALLENGE_CLASSES), st.sampled_from(CHALLENGE_CLASSES)),
    min_size=1,
    max_size=40,
)


def figures_of(truth: list[str], said: list[str]) -> dict[str, float]:
    labels = present_labels(truth, said, COSTS)
    found = figures(confusion_matrix(truth, said, labels), COSTS, labels)
    return {name: float(value) for name, value in found.items()}


def test_a_constant_fools_both_pwas_of_the_report_and_not_the_skill() -> None:
    """Missing said of all of the report's training images."""
    found = figures_of(REPORT_TRUTH, ["Missing"] * len(REPORT_TRUTH))
    assert found["pwa_challenge"] == pytest.approx(0.99850, abs=5e-6)
    assert found["pwa_report"] == pytest.approx(0.99824, abs=5e-6)
    assert found["pwa_skill"] == 0
    assert best_constant(REPORT_TRUTH, COSTS) == "Missing"
    assert found["overkill_rate"] == 1
    assert found["escape_rate"] == 0
    assert collapsed(REPORT_TRUTH, ["Missing"] * len(REPORT_TRUTH))


def test_perfect_predictions_reach_the_top_of_every_figure() -> None:
    found = figures_of(REPORT_TRUTH, REPORT_TRUTH)
    for name in (
        "pwa_challenge",
        "pwa_report",
        "pwa_skill",
        "pwa_balanced",
        "accuracy",
        "macro_f1",
    ):
        assert found[name] == 1
    assert found["mean_cost"] == 0


def test_the_figures_of_a_small_set_reckoned_by_hand() -> None:
    truth = ["GOOD", "GOOD", "Missing", "Missing", "Lift-off noir", DRIFT]
    said = ["GOOD", "Missing", "Missing", "GOOD", "Missing", "GOOD"]
    found = figures_of(truth, said)
    total = 0 + 100 + 0 + 10000 + 1 + 10000
    worst = 6 * 10000
    assert found["mean_cost"] == pytest.approx(total / 6)
    assert found["pwa_challenge"] == pytest.approx(1 - total / (6 * 10000))
    assert found["pwa_report"] == pytest.approx(1 - total / worst)
    # The best constant is Missing: 2 x 100, 0, 1, and 1000 for the drift.
    assert found["pwa_skill"] == pytest.approx(1 - total / 1201)
    balanced = [1 - 100 / 20000, 1 - 10000 / 20000, 1 - 1 / 10000, 1 - 10000 / 10000]
    assert found["pwa_balanced"] == pytest.approx(np.mean(balanced))
    assert found["escape_rate"] == pytest.approx(2 / 4)
    assert found["overkill_rate"] == pytest.approx(1 / 2)


def test_the_worst_case_counts_drift_only_where_drift_occurs() -> None:
    truth = ["GOOD", "Missing"]
    assert figures_of(truth, ["Missing", "Missing"])["pwa_report"] == pytest.approx(1 - 100 / 10100)
    with_drift = figures_of([*truth, DRIFT], ["Missing", "Missing", DRIFT])
    assert with_drift["pwa_report"] == pytest.approx(1 - 100 / 30000)


@given(labels_lists)
@settings(deadline=None)
def test_figures_agree_with_sklearn_and_keep_their_bounds(pairs: list[tuple[str, str]]) -> None:
    truth, said = map(list, zip(*pairs, strict=True))
    found = figures_of(truth, said)
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, said))
    assert found["macro_f1"] == pytest.approx(f1_score(truth, said, average="macro"))
    for name in ("pwa_challenge", "pwa_report", "pwa_balanced"):
        assert 0 <= found[name] <= 1
    assert found["pwa_skill"] <= 1 or math.isinf(found["pwa_skill"])
    constants = [
        figures_of(truth, [label] * len(truth))["mean_cost"] for label in CHALLENGE_CLASSES
    ]
    cheapest = min(constants)
    if cheapest > 0:
        assert found["pwa_skill"] == pytest.approx(1 - found["mean_cost"] / cheapest)


def test_a_balanced_figure_gives_every_class_the_same_weight() -> None:
    """With one cost for every mistake the balanced PWA is the mean recall."""
    costs = {t: {p: float(t != p) for p in CHALLENGE_CLASSES} for t in CHALLENGE_CLASSES}
    rng = np.random.default_rng(0)
    truth = rng.choice(CHALLENGE_CLASSES, 300, p=[0.1, 0.05, 0.05, 0.1, 0.6, 0.1]).tolist()
    said = [t if rng.random() < 0.7 else str(rng.choice(CHALLENGE_CLASSES)) for t in truth]
    labels = present_labels(truth, said, costs)
    found = figures(confusion_matrix(truth, said, labels), costs, labels)
    assert found["pwa_balanced"] == pytest.approx(balanced_accuracy_score(truth, said))


def test_many_matrices_at_once_are_each_as_alone() -> None:
    rng = np.random.default_rng(0)
    labels = CHALLENGE_CLASSES
    matrices = rng.integers(0, 9, (5, 6, 6))
    together = figures(matrices, COSTS, labels)
    for index, matrix in enumerate(matrices):
        for name, value in figures(matrix, COSTS, labels).items():
            assert together[name][index] == pytest.approx(float(value))


def test_a_skill_where_every_image_is_of_one_class_is_only_defined_when_perfect() -> None:
    assert figures_of(["GOOD", "GOOD"], ["GOOD", "GOOD"])["pwa_skill"] == 1
    assert not math.isfinite(figures_of(["GOOD", "GOOD"], ["GOOD", "Missing"])["pwa_skill"])


def test_labels_without_costs_are_told() -> None:
    with pytest.raises(DataError, match="labels 'bent' have no costs; costs name GOOD"):
        present_labels(["GOOD"], ["bent"], COSTS)
    with pytest.raises(DataError, match="2 true labels and 1 predictions"):
        confusion_matrix(["GOOD", "GOOD"], ["GOOD"], ["GOOD"])


def test_collapse_is_one_label_for_several() -> None:
    assert collapsed(["GOOD", "Missing"], ["GOOD", "GOOD"])
    assert not collapsed(["GOOD", "GOOD"], ["GOOD", "GOOD"])
    assert not collapsed(["GOOD", "Missing"], ["Missing", "GOOD"])


def test_the_cheapest_decision_rejects_a_part_that_is_only_probably_good() -> None:
    probabilities = np.array([[0.98, 0, 0, 0, 0.02, 0], [0.999, 0, 0, 0, 0.001, 0]])
    assert least_cost_labels(probabilities, COSTS, CHALLENGE_CLASSES) == ["Missing", "GOOD"]
