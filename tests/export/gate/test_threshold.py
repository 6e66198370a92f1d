"""The gate's threshold: what it bounds, and what one odd part may cost."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_qc_export.figures.exact import upper_bound
from edge_qc_export.gate.threshold import WORTH, allowed, choose_threshold, trade_off

pytestmark = pytest.mark.torch


def scores_of(
    good: NDArray[np.float64], bad: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    return np.concatenate([good, bad]), np.arange(len(good) + len(bad)) < len(good)


@pytest.mark.parametrize(("bad", "passes"), [(298, None), (299, 0), (472, 0), (473, 1), (801, 3)])
def test_so_many_bad_parts_let_so_many_pass(bad: int, passes: int | None) -> None:
    """One per cent at 95 %: the numbers of the exact binomial."""
    assert allowed(bad, 0.01, 0.95) == passes


def test_the_bound_holds_for_as_many_as_was_promised() -> None:
    """Thresholds from 299 bad parts, drawn a thousand times: escapes above 1 % in at most about
    5 % of them, whatever the scores' distribution."""
    rng = np.random.default_rng(0)
    broken = 0
    for _ in range(1000):
        # The true share below t of exponential scores is 1 - exp(-t).
        scores, good = scores_of(rng.exponential(0.01, 20), rng.exponential(1.0, 299))
        choice = choose_threshold(scores, good, 0.01, 0.95)
        assert choice.at_most <= 0.01
        broken += 1 - np.exp(-choice.threshold) > 0.01
    assert 20 <= broken <= 80


def test_with_too_few_bad_parts_none_passes_and_the_rest_is_said() -> None:
    rng = np.random.default_rng(0)
    scores, good = scores_of(rng.normal(0, 1, 200), rng.normal(8, 1, 60))
    choice = choose_threshold(scores, good, 0.01, 0.95)
    assert choice.passed == 0
    assert choice.threshold == scores[~good].min()
    assert choice.at_most == pytest.approx(upper_bound(0, 60))
    assert choice.at_most > 0.01


def test_one_odd_part_does_not_cost_half_of_the_yield() -> None:
    """Of 200 bad parts one looks like the middle of GOOD: it is let pass, named, and counted."""
    rng = np.random.default_rng(0)
    scores, good = scores_of(rng.normal(0, 1, 200), np.append(rng.normal(9, 1, 199), 0.0))
    choice = choose_threshold(scores, good, 0.01, 0.95)
    assert choice.passed == 1
    assert choice.steps[0].row == len(scores) - 1
    assert choice.steps[1].yield_ - choice.steps[0].yield_ >= WORTH
    assert choice.at_most == pytest.approx(upper_bound(1, 200))
    assert (scores[good] < choice.threshold).mean() > 0.99


def test_odd_parts_beyond_the_wished_share_are_not_let_pass() -> None:
    """Four of 200 are more than one per cent: the gate stays shut at the first that is too many."""
    rng = np.random.default_rng(0)
    odd = np.array([-0.5, 0.0, 0.5, 1.0])
    scores, good = scores_of(rng.normal(0, 1, 200), np.append(rng.normal(9, 1, 196), odd))
    choice = choose_threshold(scores, good, 0.01, 0.95)
    assert choice.passed <= 2


def test_a_bad_part_that_costs_little_stays_outside() -> None:
    rng = np.random.default_rng(0)
    scores, good = scores_of(rng.normal(0, 1, 200), np.append(rng.normal(9, 1, 199), 3.0))
    assert choose_threshold(scores, good, 0.01, 0.95).passed == 0


def test_equal_scores_pass_together_or_not_at_all() -> None:
    scores, good = scores_of(np.zeros(40), np.full(50, 1.0))
    choice = choose_threshold(scores, good, 0.1, 0.95)
    assert (scores[~good] < choice.threshold).sum() == choice.passed == 0


def test_the_trade_off_says_what_each_threshold_lets_pass_and_stops() -> None:
    rng = np.random.default_rng(2)
    scores, good = scores_of(rng.normal(0, 1, 60), rng.normal(2, 1, 40))
    points = trade_off(scores, good)
    for passed, stopped in points[:-1]:
        limit = np.sort(scores[~good])[passed]
        assert (scores[~good] < limit).sum() == passed
        assert (scores[good] >= limit).mean() == pytest.approx(stopped)
    assert points[0][0] == 0, "the strictest threshold lets no bad part pass"
    assert points[-1][1] == 0.0
    assert [share for _, share in points] == sorted({share for _, share in points}, reverse=True)
