"""Thousands of single flipped bits in a ledger; a few dozen in every run of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.ledger_fuzz import fuzz


@pytest.mark.parametrize(
    "flips", [pytest.param(60, id="few"), pytest.param(4000, id="many", marks=pytest.mark.faults)]
)
def test_after_any_flipped_bit_a_station_starts_and_loses_nothing_in_silence(
    quick_folder: Path, flips: int
) -> None:
    outcomes = fuzz(quick_folder, flips, seed=flips)
    assert [outcome for outcome in outcomes if outcome.breach is not None] == []
    assert any(outcome.told for outcome in outcomes), "no flip did any harm"
