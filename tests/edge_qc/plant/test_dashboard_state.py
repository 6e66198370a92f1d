"""What the dashboard makes of a plant's messages, without a browser, a broker or a clock."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_qc.errors import UsageError
from edge_qc.inspection.decision import not_judged
from edge_qc.parts import Disposition, PartVerdict, Reason
from edge_qc.plant.dashboard.control import chart
from edge_qc.plant.dashboard.filters import Filter
from edge_qc.plant.dashboard.history import BIN_S, BINS, OTHER, SOURCES, History
from edge_qc.plant.dashboard.plant import STATIONS, PlantState
from edge_qc.plant.dashboard.sequence import Gap, Numbers
from edge_qc.plant.dashboard.snapshot import snapshot
from edge_qc.plant.dashboard.station import Now
from edge_qc.publisher import HealthContent, Kind, part_content
from edge_qc.publisher.messages import BundleRef, EventContent, StateContent
from edge_qc.publisher.wire import as_sent, stamped
from edge_qc.system.state import State
from tests.rig.publishing import content, good

NOON = datetime(2026, 3, 2, 12, tzinfo=timezone.utc)


class Plant:
    """A plant at noon, and a station's way to speak to it."""

    def __init__(self) -> None:
        self.state = PlantState()
        self.at_s = 0.0

    @property
    def now(self) -> Now:
        return Now(1_000 + self.at_s, NOON + timedelta(seconds=self.at_s))

    def hear(
        self,
        kind: Kind,
        said: Any,
        seq: int | None = None,
        *,
        late: bool = False,
        retained: bool = False,
        station: str = "n",
        epoch: str = "e",
        after: int | None = None,
    ) -> None:
        text = stamped(
            kind,
            said.model_dump_json(),
            epoch=epoch,
            site="s",
            station=station,
            seq=seq,
            verdict_id=f"{epoch}-{seq}" if kind is Kind.VERDICT else None,
        )
        payload = text.encode() if seq is None else as_sent(text, late)
        if after is not None:
            payload = payload[:-1] + b',"after":%d}' % after
        topic = f"edge-qc/v1/s/{station}/{kind.value}"
        self.state.feed(topic, payload, self.now, retained=retained)

    def verdict(self, seq: int, label: str = "GOOD", ago_s: float = 0, **fields: Any) -> None:
        how = {
            key: fields.pop(key) for key in ("late", "station", "epoch", "after") if key in fields
        }
        time = self.now.utc - timedelta(seconds=ago_s)
        self.hear(Kind.VERDICT, content(good(label), time=time, **fields), seq, **how)

    def says(self, state: State, why: str = "", station: str = "n") -> None:
        said = StateContent(
            state=state, time=self.now.utc, why=why, bundle=BundleRef(id="b", version=3)
        )
        self.hear(Kind.STATE, said, station=station)

    def beats(
        self, ago_s: float = 0, retained: bool = False, epoch: str = "e", **figures: Any
    ) -> None:
        known: dict[str, Any] = {
            "time": self.now.utc - timedelta(seconds=ago_s),
            "state": State.RUNNING,
            "uptime_s": 1,
            "verdicts": {},
            "rate_per_s": 1,
        }
        said = HealthContent(**{**known, **figures})
        self.hear(Kind.HEALTH, said, retained=retained, epoch=epoch)

    def shows(self, **chosen: Any) -> dict[str, Any]:
        shown = snapshot(self.state, Filter(**chosen), self.now)
        json.dumps(shown, allow_nan=False)
        return shown


@pytest.fixture
def plant() -> Plant:
    return Plant()


def test_a_station_is_shown_with_its_state_and_the_age_of_its_last_verdict(plant: Plant) -> None:
    plant.says(State.RUNNING, "judging")
    for seq in range(1, 21):
        plant.verdict(seq)
    plant.at_s = 7
    (station,) = plant.shows()["stations"]
    assert station["name"] == "s/n"
    assert station["state"] == "RUNNING"
    assert station["age_s"] == 7
    assert station["rate"] == 2
    assert station["bundle"] == 3


def test_a_last_will_is_believed_at_once(plant: Plant) -> None:
    plant.says(State.RUNNING)
    plant.says(State.DEAD, "the connection was lost")
    (station,) = plant.shows()["stations"]
    assert station["state"] == "DEAD"
    assert station["silent_s"] is None


def test_a_station_that_falls_silent_is_told_of_though_it_said_running(plant: Plant) -> None:
    """After three heartbeats that did not come, however long its heartbeats are apart."""
    plant.says(State.RUNNING)
    for _ in range(3):
        plant.at_s += 10
        plant.beats()
    plant.at_s += 29
    assert plant.shows()["stations"][0]["silent_s"] is None
    plant.at_s += 2
    assert plant.shows()["stations"][0]["silent_s"] == 31


def test_two_stations_of_one_name_are_named_while_both_are_heard(plant: Plant) -> None:
    """Whatever the broker tells them; a station that starts again is no second one."""
    for epoch in ("first", "second", "third"):
        plant.says(State.RUNNING, "judging")
        plant.beats(epoch=epoch)
        plant.at_s += 5
    assert plant.shows()["stations"][0]["why"] == "judging"
    plant.beats(epoch="second")
    why = plant.shows()["stations"][0]["why"]
    assert why == "two stations use the name s/n: give each its own [station] site and name"
    plant.at_s += 61
    assert plant.shows()["stations"][0]["why"] == "judging"


def test_a_station_that_the_broker_forgot_is_gone_and_nothing_was_unreadable(plant: Plant) -> None:
    """Retained messages are cleared by empty ones; what it judged still counts."""
    plant.says(State.DEAD)
    plant.says(State.RUNNING, station="other")
    plant.verdict(1)
    for level in ("health", "state"):
        plant.state.feed(f"edge-qc/v1/s/n/{level}", b"", plant.now)
    shown = plant.shows()
    assert [station["name"] for station in shown["stations"]] == ["s/other"]
    assert shown["totals"]["unreadable"] == 0
    assert shown["totals"]["all"] == 1
    plant.state.feed("edge-qc/v1/s/other/verdict", b"", plant.now)
    assert plant.shows()["totals"]["unreadable"] == 1, "no verdict is empty"


def test_a_retained_heartbeat_is_as_old_as_it_says(plant: Plant) -> None:
    """A dashboard that starts later does not take the last verdict for a new one."""
    plant.beats(ago_s=40, retained=True, last_verdict_age_s=5)
    assert plant.shows()["stations"][0]["age_s"] == 45


def test_late_verdicts_stand_in_their_place_in_time(plant: Plant) -> None:
    """They move no age, no rate and no list's top; they count where they belong."""
    plant.verdict(1)
    plant.at_s = 1
    for seq in range(2, 12):
        plant.verdict(seq, "Missing", ago_s=1800, late=True)
    shown = plant.shows()
    assert shown["stations"][0]["age_s"] == 1
    assert shown["stations"][0]["rate"] == 0.1
    assert shown["verdicts"][0]["label"] == "GOOD"
    assert [row["historical"] for row in shown["verdicts"][1:]] == [True] * 10
    totals = shown["totals"]
    place = np.flatnonzero(totals["late"])
    assert totals["historical"] == 10
    assert abs(totals["times"][place[0]] - (NOON.timestamp() - 1800)) <= 3600 / 90
    assert totals["passing"][place[0]] == 0
    assert totals["passing"][-1] == 1
    assert plant.shows(window_s=900)["totals"]["all"] == 1


def test_a_gap_in_the_numbers_is_shown_until_it_is_filled(plant: Plant) -> None:
    for seq in (5, 6, 10):
        plant.verdict(seq)
    shown = plant.shows()
    assert shown["stations"][0]["missing"] == 3
    (gap,) = shown["gaps"]
    assert (gap["first"], gap["last"], gap["count"], gap["kind"]) == (7, 9, 3, "verdict")
    for seq in (8, 7, 9):
        plant.verdict(seq, ago_s=60, late=True)
    plant.verdict(1, epoch="next")
    assert plant.shows()["gaps"] == []


def test_a_gap_that_the_station_itself_cannot_fill_is_said_to_be_final(plant: Plant) -> None:
    plant.verdict(1)
    plant.verdict(4)
    plant.verdict(9, after=7)
    plant.verdict(12, after=9)
    gaps = plant.shows()["gaps"]
    assert [(gap["first"], gap["last"], gap["final"]) for gap in gaps] == [
        (2, 3, False),
        (5, 8, False),
        (10, 11, True),
    ]


def test_a_repeated_message_counts_once(plant: Plant) -> None:
    for _ in range(3):
        plant.verdict(1)
    assert plant.state.duplicates == 2
    assert plant.shows()["totals"]["all"] == 1


def test_yield_and_pareto_by_die_and_class(plant: Plant) -> None:
    labels = ["GOOD"] * 6 + ["Missing"] * 3 + ["Flat"]
    for seq, label in enumerate(labels, 1):
        plant.verdict(seq, label, die="Die01" if seq % 2 else "Die02")
    judged = content(not_judged("b", Reason.CAMERA, "cable out"), die="Die02", time=NOON)
    plant.hear(Kind.VERDICT, judged, 11)
    part = PartVerdict(
        "p", "GOOD", Disposition.REVIEW, False, {"Die01": "GOOD"}, ("Die02",), (), NOON
    )
    plant.hear(Kind.PART, part_content(part), 1)
    shown = plant.shows()
    assert [(row["label"], row["count"]) for row in shown["pareto"]] == [
        ("Missing", 3),
        ("Flat", 1),
        ("NOT_JUDGED", 1),
    ]
    assert shown["pareto"][0]["dies"] == {"Die01": 2, "Die02": 1}
    totals = shown["totals"]
    assert totals["of"] == "parts"
    assert [totals[name] for name in ("all", "passed", "rejected", "review", "unjudged")] == [
        *(1, 0, 0, 0, 1)
    ]
    totals = plant.shows(counting="views")["totals"]
    assert totals["of"] == "views"
    assert [totals[name] for name in ("all", "passed", "rejected", "review", "unjudged")] == [
        *(11, 6, 4, 0, 1)
    ]
    # A die has views alone.
    assert (plant.shows(die="Die01")["totals"]["of"], plant.shows()["stations"][0]["of"]) == (
        "views",
        "parts",
    )
    assert {row["die"]: (row["passed"], row["views"]) for row in shown["dies"]} == {
        "Die01": (3, 5),
        "Die02": (3, 6),
    }


def test_filters_choose_station_die_class_and_time(plant: Plant) -> None:
    plant.verdict(1, "Missing", die="Die01")
    plant.verdict(2, die="Die02")
    plant.verdict(1, station="other", die="Die02", ago_s=1800)
    assert [row["id"] for row in plant.shows(label="Missing")["verdicts"]] == ["e-1"]
    assert len(plant.shows(die="Die02")["verdicts"]) == 2
    assert plant.shows(station="s/other")["totals"]["all"] == 1
    assert plant.shows(window_s=900)["totals"]["all"] == 2
    assert [row["label"] for row in plant.shows(refused=True)["verdicts"]] == ["Missing"]
    assert plant.shows(die="Die02", station="s/other")["choices"]["stations"] == ["s/n", "s/other"]
    with pytest.raises(UsageError, match="window"):
        Filter.of({"window": "1e9"})


def test_events_cameras_and_queues_are_shown(plant: Plant) -> None:
    plant.hear(Kind.EVENT, EventContent(event="plan-built", time=NOON, detail="x" * 2000), 1)
    plant.beats(
        latency_ms={"p99": 12.34},
        queue=3,
        cameras={"north": {"state": "lost"}},
        outbox={"waiting": 7, "open_triggers": 0, "free_bytes": 1, "space": "low"},
    )
    shown = plant.shows()
    assert shown["events"][0]["event"] == "plan-built"
    assert len(shown["events"][0]["detail"]) == 300
    station = shown["stations"][0]
    assert station["cameras"] == [{"name": "north", "state": "lost"}]
    assert (station["p99"], station["queue"], station["waiting"]) == (12.3, 3, 7)
    assert shown["trends"]["p99"][-1] == 12.3
    assert shown["trends"]["waiting"][-1] == 7


def test_what_cannot_be_read_is_counted_and_changes_nothing(plant: Plant) -> None:
    plant.state.feed("edge-qc/v1/s/n/verdict", b"\xff{", plant.now)
    plant.state.feed("edge-qc/v1/s/n/nonsense", b"{}", plant.now)
    plant.state.feed("elsewhere", b"{}", plant.now)
    assert plant.state.unreadable == 1
    assert plant.shows()["stations"] == []


def test_made_up_names_take_no_memory(plant: Plant) -> None:
    """More stations than are shown are counted; more dies and classes become one."""
    for number in range(STATIONS + 3):
        plant.says(State.RUNNING, station=f"n{number}")
    assert len(plant.state.stations) == STATIONS
    assert plant.state.unknown == 3
    history = History()
    for number in range(SOURCES + 50):
        history.add(("s/n", f"die-{number}"), 1e9, f"label-{number}", Disposition.REJECT)
    window = history.window(900, 90)
    assert len(window.sources) == SOURCES
    assert window.sources[-1] == (OTHER, OTHER)
    assert window.labels.sum() == SOURCES + 50


def test_a_clock_that_is_ahead_is_told_and_pushes_nothing_out(plant: Plant) -> None:
    plant.verdict(1, ago_s=60)
    plant.verdict(2, ago_s=-86_400)
    plant.beats(ago_s=-86_400)
    shown = plant.shows()
    assert shown["totals"]["all"] == 2
    assert shown["stations"][0]["skew_s"] == 86_400


EXTREME = st.sampled_from(
    ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z", "2026-03-02T12:00:00", 0, -1, 1e18, "x"]
)
FIGURE = st.sampled_from([0, -1, 1e-308, 1e308, 5e-324, 10**400, "NaN", None, 0.5])


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_whatever_a_message_holds_the_page_can_be_drawn(data: st.DataObject) -> None:
    """Extreme times, figures and names: counted or unreadable, but never in the way of others."""
    plant = Plant()
    plant.verdict(1)
    kinds = {
        Kind.VERDICT: content(time=NOON),
        Kind.HEALTH: HealthContent(
            time=NOON, state=State.RUNNING, uptime_s=1, verdicts={}, rate_per_s=1
        ),
        Kind.STATE: StateContent(state=State.RUNNING, time=NOON),
        Kind.EVENT: EventContent(event="e", time=NOON),
    }
    for kind, said in kinds.items():
        document = json.loads(
            stamped(kind, said.model_dump_json(), epoch="e", site="s", station="n", seq=2)
        )
        document |= {"historical": data.draw(st.booleans()), "verdict_id": "v"}
        document["time"] = data.draw(EXTREME)
        document["seq"] = data.draw(st.sampled_from([1, 2, 10**18, 10**400]))
        document["queue"] = data.draw(FIGURE)
        document["last_verdict_age_s"] = data.draw(FIGURE)
        document["latency_ms"] = {"p99": data.draw(FIGURE), "engine": data.draw(FIGURE)}
        if document.get("drift"):
            document["drift"] |= {"score": data.draw(FIGURE), "threshold": data.draw(FIGURE)}
        for name in ("label", "die", "camera", "event"):
            if name in document:
                document[name] = data.draw(st.sampled_from(["x" * 300, "\ud800", "", "GOOD"]))
        payload = json.dumps(document).encode()
        plant.state.feed(f"edge-qc/v1/s/n/{kind.value}", payload, plant.now)
    assert plant.shows()["stations"][0]["name"] == "s/n"
    assert len(json.dumps(plant.shows())) < 30_000


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_gaps_are_what_is_missing_between_what_came(sequence: list[int]) -> None:
    numbers, came = Numbers(), set()
    for seq in sequence:
        assert numbers.note("e", seq) is (seq not in came)
        came.add(seq)
    missing = set(range(min(came), max(came) + 1)) - came
    told = [seq for gap in numbers.gaps() for seq in range(gap.first, gap.last + 1)]
    assert set(told) == missing
    assert all(gap.count > 0 for gap in numbers.gaps())
    assert len(told) == len(missing) == numbers.missing


@given(st.lists(st.integers(1, 30), max_size=30), st.integers(1, 30))
def test_what_is_recorded_up_to_a_number_is_not_missing(sequence: list[int], upto: int) -> None:
    numbers = Numbers()
    for seq in sequence:
        numbers.note("e", seq)
    numbers.note_upto("e", upto)
    known = {*sequence, *range(1, upto + 1)}
    missing = set(range(1, max(known) + 1)) - known
    assert {n for gap in numbers.gaps() for n in range(gap.first, gap.last + 1)} == missing
    assert all(numbers.has("e", seq) is (seq in known) for seq in range(32))


def test_a_number_from_nowhere_takes_no_time() -> None:
    numbers = Numbers()
    for seq in (1, 10**15, 10**15 + 2):
        numbers.note("e", seq)
    assert list(numbers.gaps()) == [Gap("e", 2, 10**15 - 1), Gap("e", 10**15 + 1, 10**15 + 1)]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 3 * BINS * BIN_S), st.booleans()), max_size=40),
    st.sampled_from([(900, 90), (3600, 90), (28_800, 90), (3600, 7)]),
)
def test_a_window_counts_what_lies_in_it(
    verdicts: list[tuple[int, bool]], asked: tuple[int, int]
) -> None:
    """Whatever order they come in, and however the ring has turned."""
    seconds, steps = asked
    base = 1_772_000_000 // BIN_S * BIN_S
    history = History()
    for time_s, good_one in verdicts:
        history.add(
            ("s", "d"),
            base + time_s,
            "GOOD" if good_one else "x",
            Disposition.PASS if good_one else Disposition.REJECT,
        )
    end = base + 3 * BINS * BIN_S
    history.advance(end)
    window = history.window(seconds, steps)
    assert len(window.times) <= steps
    kept = [verdict for verdict in verdicts if base + verdict[0] >= window.times[0]]
    kept = [verdict for verdict in kept if base + verdict[0] >= end - (BINS - 1) * BIN_S]
    assert window.labels.sum() == len(kept)
    assert window.outcomes.sum((0, 1))[0:1].sum() == sum(good_one for _, good_one in kept)


def test_a_control_chart_sees_a_step_and_a_slow_drift_and_lets_noise_be() -> None:
    draw = np.random.default_rng(3)
    noise = draw.normal(1, 0.1, 90)
    assert sum(chart(noise).out) <= 1
    step = noise.copy()
    step[80:] += 0.6
    assert sum(chart(step).out[80:]) >= 8
    drift = noise + np.linspace(0, 0.5, 90)
    assert sum(chart(drift).out[75:]) >= 8
    run = np.resize([0.9, 0.9, 1.1], 90)
    run[40:51] = 1.1
    assert not any(chart(run).out), "eleven above the centre, which chance brings too"
    run[51] = 1.1
    assert any(chart(run).out)
    assert chart(noise[:11]).upper is None
    assert chart(np.full(90, np.nan)).centre is None
