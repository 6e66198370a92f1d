"""Temperature and tails: what held-out scores allow, and what they do not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_qc.bundle.calibration import ANY_DIE
from edge_qc.errors import DataError
from edge_qc.inspection.decision import softmax
from edge_qc.inspection.findings import p_value, threshold_at
from edge_qc_export.figures.calibration import (
    FEWEST,
    FEWEST_OF_A_DIE,
    Combine,
    calibrate_drift,
    fit_temperature,
    tail_from_scores,
    tails_by_die,
)

pytestmark = pytest.mark.torch

GENERATOR = np.random.default_rng(0)
SCORES = GENERATOR.chisquare(20, 1000)


def test_temperature_undoes_overconfidence() -> None:
    generator = np.random.default_rng(1)
    honest = generator.normal(size=(4000, 4)) * 2
    shares = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    labels = np.array([generator.choice(4, p=row) for row in shares])
    assert fit_temperature(honest, labels) == pytest.approx(1, rel=0.1)
    assert fit_temperature(honest * 5, labels) == pytest.approx(5, rel=0.1)


@pytest.mark.parametrize("errors", [0, 4])
def test_a_network_is_not_made_surer_than_it_is_where_hardly_an_error_was_seen(errors: int) -> None:
    """120 right answers say nothing of a doubtful view: it must stay doubtful."""
    labels = np.arange(120 + errors) % 4
    logits = np.eye(4)[labels] * np.linspace(0.6, 4, len(labels))[:, None]
    logits[120:] = np.eye(4)[(labels[120:] + 1) % 4]
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(1)
    assert softmax(np.array([1.0, 0.4, 0.2, 0.0], np.float32), temperature)[0] < 0.5


def test_a_network_that_is_less_sure_than_right_is_made_surer() -> None:
    generator = np.random.default_rng(1)
    honest = generator.normal(size=(4000, 4)) * 2
    shares = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    labels = np.array([generator.choice(4, p=row) for row in shares])
    assert fit_temperature(honest / 4, labels) == pytest.approx(0.25, rel=0.1)


def test_a_threshold_calls_as_many_fresh_known_parts_drift_as_it_says() -> None:
    tail = tail_from_scores(SCORES, "score")
    fresh = np.random.default_rng(2).chisquare(20, 20000)
    for alpha in (0.2, 0.05, 0.01):
        called = float((fresh >= threshold_at(tail, alpha)).mean())
        assert called == pytest.approx(alpha, rel=0.5)


def test_p_values_go_on_falling_beyond_the_highest_held_out_score() -> None:
    tail = tail_from_scores(SCORES, "score")
    top = float(SCORES.max())
    assert p_value(tail, top) < 3 / len(SCORES)
    assert p_value(tail, 2 * top) < p_value(tail, 1.5 * top) < p_value(tail, top)


def test_a_tail_is_compact() -> None:
    assert len(tail_from_scores(SCORES, "score").scores) <= 64


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 1e6, allow_nan=False, width=32), min_size=FEWEST, max_size=200),
)
def test_any_scores_give_a_falling_tail_or_a_refusal(scores: list[float]) -> None:
    try:
        tail = tail_from_scores(np.array(scores), "score")
    except DataError:
        return
    grid = np.linspace(min(scores), 2 * max(scores) + 1, 50)
    p_values = [p_value(tail, float(score)) for score in grid]
    assert all(0 < after <= before <= 1 for before, after in itertools.pairwise(p_values))


def test_too_few_scores_are_refused_with_the_number_needed() -> None:
    with pytest.raises(DataError, match=f"29 images, wanted at least {FEWEST}"):
        tail_from_scores(SCORES[:29], "score")


@pytest.mark.parametrize(
    "scores",
    [np.ones(100), np.arange(100) % 3.0, np.r_[np.zeros(95), np.arange(5)]],
    ids=["one value", "three values", "nearly all the same"],
)
def test_degenerate_scores_are_refused(
    scores: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> None:
    with pytest.raises(DataError, match="degenerate"):
        tail_from_scores(scores, "score")


def test_a_score_that_is_not_finite_is_refused() -> None:
    with pytest.raises(DataError, match="not finite"):
        tail_from_scores(np.append(SCORES, np.nan), "score")


def test_a_die_has_its_own_tail_where_it_has_enough_images() -> None:
    dies = ["Die01"] * FEWEST_OF_A_DIE + ["Die02"] * (FEWEST_OF_A_DIE - 1)
    scores = SCORES[: len(dies)]
    tails = tails_by_die(scores, dies, "score")
    assert set(tails) == {ANY_DIE, "Die01"}
    assert tails["Die01"].count == FEWEST_OF_A_DIE
    assert tails[ANY_DIE].count == len(dies)


@pytest.mark.parametrize("combine", ["fisher", "max", "padim", "embedding"])
def test_the_combination_is_calibrated_again(combine: Combine) -> None:
    """Two witnesses that agree would count twice without it."""
    dies = ["Die01"] * len(SCORES)
    calibration = calibrate_drift(
        SCORES,
        SCORES * 3 + 1,
        dies,
        combine=combine,
        alpha=0.05,
        prior=0.1,
        assumed_auroc=0.9,
    )
    from edge_qc.inspection.findings import find_drift
    from edge_qc.parts import Reading

    fresh = np.random.default_rng(3).chisquare(20, 5000)
    called = 0
    for score in fresh:
        reading = Reading(
            np.zeros(2, np.float32), np.zeros((2, 2), np.float32), score, score * 3 + 1
        )
        called += find_drift(calibration, "Die01", reading).p_value <= 0.05
    assert called / len(fresh) == pytest.approx(0.05, rel=0.4)
