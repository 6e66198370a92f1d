"""What counts prove, against tables that anyone can look up."""

from __future__ import annotations

import math

import pytest
from scipy.stats import binom

from edge_qc_export.figures.exact import most_by_chance, parts_needed, share, upper_bound


@pytest.mark.parametrize(("bound", "parts"), [(0.01, 299), (0.003, 998), (0.001, 2995)])
def test_none_passed_proves_so_much(bound: float, parts: int) -> None:
    """The rule of three, exactly: how many bad parts a bound takes when none passes."""
    assert parts_needed(bound) == parts
    assert upper_bound(0, parts) <= bound < upper_bound(0, parts - 1)


def test_one_that_passes_costs_many_more() -> None:
    assert parts_needed(0.01, count=1) == 473
    assert upper_bound(1, 473) <= 0.01 < upper_bound(1, 472)


def test_a_two_sided_interval() -> None:
    """Clopper and Pearson's own example: 1 of 10."""
    found = share(1, 10)
    assert (found.low, found.high) == pytest.approx((0.0025, 0.4450), abs=1e-4)
    assert found.value == 0.1


def test_the_ends_are_closed() -> None:
    none, all_ = share(0, 20), share(20, 20)
    assert none.low == 0
    assert all_.high == 1
    assert none.high == pytest.approx(1 - all_.low)
    assert upper_bound(20, 20) == 1


def test_nothing_counted_proves_nothing() -> None:
    assert math.isnan(share(0, 0).value)
    assert upper_bound(0, 0) == 1


def test_an_impossible_count_is_refused() -> None:
    with pytest.raises(ValueError, match="3 of 2"):
        share(3, 2)


@pytest.mark.parametrize(
    ("of", "most"), [(0, 0), (1, 0), (5, 0), (6, 1), (35, 1), (36, 2), (200, 5), (1000, 15)]
)
def test_so_many_may_pass_before_chance_is_ruled_out(of: int, most: int) -> None:
    """By the binomial's own sum: so many or more have a chance of 5 %, one more has not."""
    assert most_by_chance(of, 0.01) == most
    assert of == most or binom.sf(most, of, 0.01) < 0.05
    assert most == 0 or binom.sf(most - 1, of, 0.01) >= 0.05
