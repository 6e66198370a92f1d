"""The line's shares of the labels."""

from __future__ import annotations

import pytest

from edge_qc.errors import UsageError
from edge_qc.parts import DRIFT, GOOD
from edge_qc_export.gate.mix import line_mix, read_mix

pytestmark = pytest.mark.torch

LEARNED = {GOOD: 0.2, "flat": 0.2, "missing": 0.6}


def test_what_is_not_stated_is_shared_as_the_labelled_parts_are() -> None:
    mix = line_mix({}, LEARNED, 0.01)
    assert mix[GOOD] == 0.95
    assert mix[DRIFT] == 0.01
    assert mix["missing"] == pytest.approx(3 * mix["flat"])
    assert sum(mix.values()) == pytest.approx(1)


def test_what_is_stated_holds() -> None:
    mix = line_mix(read_mix("GOOD=0.9, flat=0.05"), LEARNED, 0.01)
    assert (mix[GOOD], mix["flat"], mix[DRIFT]) == (0.9, 0.05, 0.01)
    assert mix["missing"] == pytest.approx(0.04)


def test_good_alone_leaves_the_rest_to_drift() -> None:
    assert line_mix({}, {GOOD: 1.0}, 0.02) == {DRIFT: 0.02, GOOD: pytest.approx(0.98)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("GOOD", "LABEL=SHARE"),
        ("GOOD=2", "LABEL=SHARE"),
        ("GOOD=0.5,GOOD=0.5", "once each"),
        ("GOOD=x", "LABEL=SHARE"),
    ],
)
def test_a_mix_that_cannot_be_read_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_mix(text)


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        ({"scratch": 0.1}, "no class 'scratch'"),
        ({GOOD: 0.9, "flat": 0.3}, "add up to 1.21"),
        ({GOOD: 0.5, "flat": 0.1, "missing": 0.1}, "add up to 0.71"),
        ({GOOD: 0.0}, "GOOD between 0 and 1"),
    ],
)
def test_shares_that_cannot_be_are_refused(stated: dict[str, float], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        line_mix(stated, LEARNED, 0.01)
