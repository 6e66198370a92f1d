"""Calibration error and the rates of drift, against sklearn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from edge_qc_export.figures.rates import BINS, auprc, auroc, calibration_error, reliability


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
@settings(deadline=None)
def test_drift_rates_agree_with_sklearn_whatever_ties(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in rows], float)
    positive = np.array([flag for _, flag in rows])
    if positive.all() or not positive.any():
        assert np.isnan(auroc(scores, positive, np.ones((1, len(rows)))))
        return
    ones = np.ones((1, len(rows)))
    assert auroc(scores, positive, ones)[0] == pytest.approx(roc_auc_score(positive, scores))
    wanted = average_precision_score(positive, scores)
    assert auprc(scores, positive, ones)[0] == pytest.approx(wanted)


def test_a_weight_is_as_many_images() -> None:
    rng = np.random.default_rng(0)
    scores, positive = rng.normal(size=30), rng.random(30) < 0.4
    confidence, right = rng.random(30), rng.random(30) < 0.5
    weights = rng.integers(0, 4, (3, 30)).astype(float)
    for index, row in enumerate(weights.astype(int)):
        many = np.ones((1, row.sum()))
        for rate in (auroc, auprc):
            alone = rate(np.repeat(scores, row), np.repeat(positive, row), many)
            assert rate(scores, positive, weights)[index] == pytest.approx(alone[0])
        alone = calibration_error(np.repeat(confidence, row), np.repeat(right, row), many)
        assert calibration_error(confidence, right, weights)[index] == pytest.approx(alone[0])


def test_calibration_error_is_the_gap_between_said_and_seen() -> None:
    confidence = np.array([0.9] * 10 + [0.6] * 10)
    right = np.array([True] * 5 + [False] * 5 + [True] * 6 + [False] * 4)
    error = calibration_error(confidence, right, np.ones((1, 20)))
    assert error[0] == pytest.approx(0.5 * 0.4 + 0.5 * 0.0)


def test_a_reliability_diagram_keeps_every_image() -> None:
    confidence = np.array([0.0, 0.5, 0.51, 1.0])
    found = reliability(confidence, np.array([False, True, False, True]))
    assert len(found.edges) == BINS + 1
    assert found.counts.sum() == 4
    assert found.accuracy[-1] == 1
    assert found.confidence[0] == 0
    assert np.isnan(found.accuracy[1])
