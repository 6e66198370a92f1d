"""The dashboard with the recorder's database: SQLite and PostgreSQL, against counting by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from edge_qc.errors import UsageError
from edge_qc.parts import Disposition
from edge_qc.plant.dashboard.filters import Filter
from edge_qc.plant.dashboard.login import Account, Role
from edge_qc.plant.dashboard.plant import PlantState
from edge_qc.plant.dashboard.records.handover import handover
from edge_qc.plant.dashboard.records.labelling import label
from edge_qc.plant.dashboard.records.periods import period_before, period_of
from edge_qc.plant.dashboard.records.recall import recall, uptos
from edge_qc.plant.dashboard.records.recorded import Records
from edge_qc.plant.dashboard.snapshot import snapshot
from edge_qc.plant.dashboard.station import Now
from edge_qc.plant.recorder import Store, open_database
from edge_qc.plant.recorder.where import Shifts
from tests.rig.recording import arrived, part, verdict

PARIS = ZoneInfo("Europe/Paris")
SHIFTS = Shifts((time(6), time(14), time(22)), PARIS)
NOW = datetime(2026, 3, 4, 15, 7, tzinfo=timezone.utc)
"""A Wednesday, 16:07 in Paris: two hours into the second shift."""

ROOT = "edge-qc/v1/s/n"


def event(seq: int, at: datetime, name: str, severity: str) -> bytes:
    said = {
        "schema": "edge-qc/event/1", "epoch": "e1", "seq": seq, "site": "s", "station": "n",
        "event": name, "severity": severity, "time": at.isoformat(), "detail": "", "camera": None,
        "historical": False,
    }  # fmt: skip
    return json.dumps(said).encode()


HOURS = [*([0.5] * 4), *([1.5] * 6), *([4] * 10), *([30] * 5), *([24 * 9] * 3)]
"""How long ago each verdict was: this shift, the last one, yesterday, and the week before."""


@pytest.fixture
def records(database: str) -> Iterator[Records]:
    engine = open_database(database)
    store = Store(engine)
    views = [
        verdict(
            seq,
            time=(NOW - timedelta(hours=hours)).isoformat(),
            label=("GOOD", "Missing", "GOOD", "NOT_JUDGED")[seq % 4],
            die=("Die01", "Die02")[seq % 2],
        )
        for seq, hours in enumerate(reversed(HOURS), 1)
    ]
    parts = [
        part(seq, NOW - timedelta(hours=hours), ("GOOD", "Missing")[seq % 2], seq != 2)
        for seq, hours in enumerate((6, 5, 1, 0.5), 1)
    ]
    store.record(arrived(*views))
    store.record(arrived(*parts, level="part"))
    events = [event(1, NOW - timedelta(minutes=20), "output-away", "alarm")]
    store.record(arrived(*events, level="event"))
    yield Records(engine, SHIFTS)
    engine.dispose()


def labels(hours: float) -> Counter[str]:
    """By hand, of the verdicts of the last hours."""
    kinds = ("GOOD", "Missing", "GOOD", "NOT_JUDGED")
    return Counter(kinds[seq % 4] for seq, ago in enumerate(reversed(HOURS), 1) if ago <= hours)


def sections(records: Records, **chosen: Any) -> dict[str, Any]:
    found = records.sections(Filter(**chosen), NOW)
    json.dumps(found, allow_nan=False)
    return found


@pytest.mark.parametrize(("period", "hours"), [("shift", 2), ("day", 15), ("week", 64)])
def test_counts_of_a_period_are_those_of_counting(
    records: Records, period: str, hours: float
) -> None:
    shown = sections(records, period=period, counting="views")
    by_hand = labels(hours)
    totals = shown["totals"]
    assert (totals["of"], totals["all"], totals["passed"], totals["unjudged"]) == (
        "views", sum(by_hand.values()), by_hand["GOOD"], by_hand["NOT_JUDGED"]
    )  # fmt: skip
    assert {one["label"]: one["count"] for one in shown["pareto"]} == {
        name: n for name, n in by_hand.items() if name != "GOOD"
    }
    assert sum(one["views"] for one in shown["dies"]) == sum(by_hand.values())
    assert len(shown["verdicts"]) == sum(by_hand.values())
    assert len(totals["passing"]) == len(totals["times"])
    assert totals["times"][-1] <= NOW.timestamp()


def test_a_shift_is_counted_in_parts_and_set_against_the_last(records: Records) -> None:
    totals = sections(records, period="shift")["totals"]
    assert totals["of"] == "parts"
    assert (totals["all"], totals["passed"], totals["rejected"], totals["unjudged"]) == (2, 1, 1, 0)
    assert totals["before"] == {"passed": 0, "rejected": 1, "review": 0, "unjudged": 1}
    # Each interval is a quarter of an hour: the parts are an hour and half an hour old.
    assert [share for share in totals["passing"] if share is not None] == [0.0, 1.0]


def test_a_die_a_station_and_a_class_can_be_chosen(records: Records) -> None:
    one = sections(records, period="week", die="Die01")
    assert one["totals"]["of"] == "views"
    assert {row["die"] for row in one["verdicts"]} == {"Die01"}
    assert sections(records, period="week", station="s/other")["totals"]["all"] == 0
    chosen = sections(records, period="week", label="Missing", refused=True)["verdicts"]
    assert {row["label"] for row in chosen} == {"Missing"}
    happened = sections(records, period="shift")["events"]
    assert [one["event"] for one in happened] == ["output-away"]


def test_drift_is_shown_by_station_and_die_as_a_share_of_the_threshold(records: Records) -> None:
    drift = sections(records, period="shift")["drift"]
    assert [(one["station"], one["die"]) for one in drift["charts"]] == [
        ("s/n", "Die01"),
        ("s/n", "Die02"),
    ]
    means = [value for value in drift["charts"][0]["mean"] if value is not None]
    assert means == [pytest.approx(0.5 / 9.0, abs=1e-4)] * len(means)


def test_a_verdict_of_days_ago_is_found_with_its_label(records: Records) -> None:
    found = records.verdict("s/n", "e1-4")
    assert found is not None
    assert found[0].verdict_id == "e1-4"
    assert records.verdict("s/other", "e1-4") is None
    assert records.truth("e1-4") is None


def test_who_labels_may_not_overrule_and_who_decides_may(records: Records) -> None:
    ann, bob = Account("ann", Role.LABEL), Account("bob", Role.LABEL)
    label(records.engine, ann, "e1-4", "Missing")
    label(records.engine, ann, "e1-4", "GOOD", "seen again")
    with pytest.raises(UsageError, match="ann labelled this GOOD; bob may not overrule it"):
        label(records.engine, bob, "e1-4", "Missing")
    label(records.engine, Account("bob", Role.DECIDE), "e1-4", "Missing")
    assert records.truth("e1-4") == {"label": "Missing", "who": "bob"}
    with pytest.raises(UsageError, match="not a class of this verdict's bundle"):
        label(records.engine, ann, "e1-5", "Mising")


def test_a_restart_of_the_dashboard_loses_nothing(records: Records) -> None:
    """The counts, the lists and the numbers of the last eight hours; a message that comes again
    from the broker is not counted twice, and none that is recorded is missing."""
    plant = PlantState()
    recall(records, plant, NOW)
    now = Now(1000.0, NOW)
    seen = sum(hours <= 8 for hours in HOURS)
    shown = snapshot(plant, Filter(window_s=28_800, counting="views"), now)
    assert shown["totals"]["all"] == seen
    assert len(shown["verdicts"]) == seen
    assert shown["events"][0]["event"] == "output-away"
    assert snapshot(plant, Filter(window_s=28_800), now)["totals"]["of"] == "parts"
    newest = len(HOURS)
    plant.feed(f"{ROOT}/verdict", verdict(newest, time=NOW.isoformat()), now)
    plant.feed(f"{ROOT}/verdict", verdict(newest + 3, time=NOW.isoformat()), now)
    shown = snapshot(plant, Filter(window_s=28_800, counting="views"), now)
    assert shown["totals"]["all"] == seen + 1
    (gap,) = shown["gaps"]
    assert (gap["first"], gap["last"]) == (newest + 1, newest + 2)
    # They were recorded while the dashboard did not listen.
    store = Store(records.engine)
    store.record(arrived(*(verdict(newest + n, time=NOW.isoformat()) for n in (1, 2))))
    for (name, epoch, kind), upto in uptos(records, NOW - timedelta(hours=8)).items():
        plant.note_recorded(name, kind, epoch, upto)
    assert snapshot(plant, Filter(), now)["gaps"] == []


def test_a_station_whose_clock_is_ahead_does_not_empty_the_recalled_hours(
    records: Records,
) -> None:
    ahead = NOW + timedelta(days=2)
    store = Store(records.engine)
    store.record(arrived(verdict(len(HOURS) + 1, time=ahead.isoformat())))
    store.record(arrived(part(5, ahead), level="part"))
    plant = PlantState()
    recall(records, plant, NOW)
    shown = snapshot(plant, Filter(window_s=28_800, counting="views"), Now(0.0, NOW))
    assert shown["totals"]["all"] == sum(labels(8).values()) + 1
    assert plant.views.add(("s/n", "Die01"), NOW.timestamp(), "GOOD", Disposition.PASS)


def test_an_alarm_of_this_shift_is_recalled_behind_a_thousand_events(records: Records) -> None:
    store = Store(records.engine)
    later = [
        event(seq, NOW - timedelta(minutes=1), "view-changed", "info") for seq in range(2, 900)
    ]
    store.record(arrived(*later, level="event"))
    plant = PlantState()
    recall(records, plant, NOW)
    assert plant.alarms.of("s/n", NOW.timestamp()) == ["output-away"]


def test_what_stands_beyond_a_hole_is_recalled_too(records: Records) -> None:
    """A recorder that came after the station's first verdicts never has them."""
    found = [verdict(seq, epoch="e9", time=NOW.isoformat()) for seq in (7, 8, 11)]
    Store(records.engine).record(arrived(*found))
    plant, now = PlantState(), Now(1000.0, NOW)
    recall(records, plant, NOW)
    before = sum(hours <= 8 for hours in HOURS)
    plant.feed(f"{ROOT}/verdict", found[0], now)
    shown = snapshot(plant, Filter(window_s=28_800, counting="views"), now)
    assert shown["totals"]["all"] == before + 3
    assert len(shown["verdicts"]) == before + 3
    assert [(gap["first"], gap["last"]) for gap in shown["gaps"]] == [(9, 10)]


def test_a_handover_tells_of_both_shifts(records: Records) -> None:
    told = handover(records, NOW, last=False)
    assert (told["since"], told["until"]) == (
        "2026-03-04T13:00:00.000Z",
        "2026-03-04T15:07:00.000Z",
    )
    (station,) = told["stations"]
    assert (station["name"], station["of"], station["passed"], station["rejected"]) == (
        "s/n", "parts", 1, 1
    )  # fmt: skip
    assert station["before"]["unjudged"] == 1
    assert told["reasons"][0]["count"] >= told["reasons"][-1]["count"]
    assert [one["event"] for one in told["events"]] == ["output-away"]
    assert told["events"][0]["next"]
    last = handover(records, NOW, last=True)
    assert (last["since"], last["until"]) == (
        "2026-03-04T05:00:00.000Z",
        "2026-03-04T13:00:00.000Z",
    )
    json.dumps([told, last], allow_nan=False)


def test_periods_follow_the_calendar_where_the_clocks_change() -> None:
    sunday = datetime(2026, 3, 29, 10, tzinfo=timezone.utc)
    day = period_of("day", sunday, SHIFTS)
    assert day.until.timestamp() - day.since.timestamp() == 23 * 3600
    night = period_of("shift", datetime(2026, 3, 29, 1, 30, tzinfo=timezone.utc), SHIFTS)
    assert night.until.timestamp() - night.since.timestamp() == 7 * 3600
    week = period_of("week", sunday, SHIFTS)
    assert (week.since.isoformat(), week.until.isoformat()) == (
        "2026-03-23T00:00:00+01:00",
        "2026-03-30T00:00:00+02:00",
    )
    assert period_before(night, SHIFTS).until == night.since
