"""Views joined to parts."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_qc.inspection.part import INCOMPLETE, PartJoiner
from edge_qc.parts import (
    GOOD,
    NOT_JUDGED,
    Disposition,
    DriftFinding,
    PartVerdict,
    Reason,
    Verdict,
)

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
DIES = ("Die01", "Die02", "Die03", "Die04")
DRIFT_FINDING = DriftFinding(1.0, 0.5, 5.0, "padim", {"padim": 0.5, "embedding": 0.5})


def verdict(label: str) -> Verdict:
    if label == NOT_JUDGED:
        return Verdict(label, Disposition.REVIEW, Reason.CAMERA, "b")
    disposition = Disposition.PASS if label == GOOD else Disposition.REJECT
    return Verdict(label, disposition, Reason.DECIDED, "b", {label: 1.0}, DRIFT_FINDING)


def joined(labels: dict[str, str], deadline_s: float = 5.0) -> PartVerdict:
    joiner = PartJoiner(DIES, deadline_s)
    part = None
    for die, label in labels.items():
        part = joiner.add("p", die, f"id-{die}", verdict(label), 0.0, NOW)
    if part is None:
        (part,) = joiner.overdue(deadline_s, NOW)
    return part


def test_four_good_views_make_a_good_part() -> None:
    part = joined(dict.fromkeys(DIES, GOOD))
    assert (part.label, part.disposition, part.complete) == (GOOD, Disposition.PASS, True)


def test_the_worst_view_is_the_parts() -> None:
    part = joined({**dict.fromkeys(DIES, GOOD), "Die03": "missing"})
    assert (part.label, part.disposition) == ("missing", Disposition.REJECT)


def test_a_part_without_one_die_is_incomplete_and_names_it() -> None:
    part = joined(dict.fromkeys(DIES[:3], GOOD))
    assert (part.label, part.missing) == (INCOMPLETE, ("Die04",))
    assert part.disposition is Disposition.REVIEW


def test_a_rejected_view_rejects_an_incomplete_part_too() -> None:
    part = joined({"Die01": "missing"})
    assert (part.label, part.disposition) == ("missing", Disposition.REJECT)
    assert not part.complete


@given(
    st.dictionaries(
        st.sampled_from(DIES), st.sampled_from([GOOD, "missing", NOT_JUDGED]), min_size=1
    )
)
def test_a_part_passes_only_when_every_die_was_judged_good(labels: dict[str, str]) -> None:
    part = joined(labels)
    good = labels == dict.fromkeys(DIES, GOOD)
    assert (part.disposition is Disposition.PASS) is good


def test_a_second_view_of_a_die_cannot_make_it_better() -> None:
    joiner = PartJoiner(DIES[:2], 5.0)
    joiner.add("p", "Die01", "a", verdict("missing"), 0.0, NOW)
    joiner.add("p", "Die01", "b", verdict(GOOD), 0.0, NOW)
    part = joiner.add("p", "Die02", "c", verdict(GOOD), 0.0, NOW)
    assert part is not None
    assert part.label == "missing"


def test_a_view_after_the_deadline_does_not_open_the_part_again() -> None:
    joiner = PartJoiner(DIES[:2], 5.0)
    joiner.add("p", "Die01", "a", verdict(GOOD), 0.0, NOW)
    assert [part.label for part in joiner.overdue(5.0, NOW)] == [INCOMPLETE]
    assert joiner.add("p", "Die02", "b", verdict(GOOD), 6.0, NOW) is None
    assert joiner.overdue(60.0, NOW) == []


def test_parts_that_are_open_when_the_line_stops_are_closed() -> None:
    joiner = PartJoiner(DIES, 5.0)
    joiner.add("p", "Die01", "a", verdict(GOOD), 0.0, NOW)
    assert [part.label for part in joiner.flush(1.0, NOW)] == [INCOMPLETE]


def test_what_was_said_of_a_closed_part_is_known_to_a_late_view() -> None:
    joiner = PartJoiner(DIES[:1], 5.0)
    assert joiner.said("p", 0.0) is None
    joiner.add("p", "Die01", "a", verdict(GOOD), 0.0, NOW)
    assert joiner.said("p", 0.0) is Disposition.PASS
    assert joiner.add("p", "Die01", "b", verdict("missing"), 1.0, NOW) is None
    assert joiner.said("p", 1.0) is Disposition.PASS


@pytest.mark.parametrize(("deadline_s", "late_s"), [(2.0, 60.0), (20.0, 200.0)])
def test_an_id_that_comes_again_long_after_is_another_part(
    deadline_s: float, late_s: float
) -> None:
    """A counter that begins anew with each shift, a golden part that comes every morning."""
    joiner = PartJoiner(DIES[:1], deadline_s)
    assert joiner.add("1", "Die01", "a", verdict(GOOD), 0.0, NOW) is not None
    assert joiner.add("1", "Die01", "b", verdict("missing"), late_s - 1, NOW) is None
    assert joiner.said("1", late_s) is None
    again = joiner.add("1", "Die01", "c", verdict("missing"), late_s, NOW)
    assert again is not None
    assert (again.label, again.verdict_ids) == ("missing", ("c",))
