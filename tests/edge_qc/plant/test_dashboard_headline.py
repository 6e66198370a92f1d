"""The sentence over the dashboard and the words on its tiles: true, never vainly reassuring."""

from __future__ import annotations

from typing import Any

import pytest

from edge_qc.parts import DriftFinding
from edge_qc.plant.dashboard.plant import STATIONS
from edge_qc.plant.dashboard.station import WILLS_S
from edge_qc.publisher import Kind
from edge_qc.publisher.messages import EventContent, Severity
from edge_qc.system.state import STOPPED, State
from tests.edge_qc.plant.test_dashboard_state import Plant
from tests.rig.publishing import content, good

OUTBOX = {"waiting": 2, "open_triggers": 0, "free_bytes": 1 << 30, "space": "ok"}


@pytest.fixture
def plant() -> Plant:
    """Two stations that run."""
    plant = Plant()
    for name in ("n", "m"):
        plant.says(State.RUNNING, "judging", name)
    return plant


def headline(plant: Plant, **chosen: Any) -> tuple[str, str]:
    said = plant.shows(**chosen)["headline"]
    return said["tone"], said["text"]


def tile(plant: Plant, name: str = "s/n") -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in plant.shows()["stations"] if one["name"] == name)
    return found


def alarm(plant: Plant, event: str, seq: int, severity: Severity = Severity.ALARM) -> None:
    said = EventContent(event=event, severity=severity, time=plant.now.utc)
    plant.hear(Kind.EVENT, said, seq)


def test_a_plant_in_which_nothing_is_wrong_is_well(plant: Plant) -> None:
    assert headline(plant) == ("good", "All 2 stations are well")


def test_a_yield_of_nothing_is_named_with_its_station(plant: Plant) -> None:
    for seq in range(1, 13):
        plant.verdict(seq, "Missing")
    assert headline(plant) == ("bad", "n is passing no view")
    assert tile(plant)["tone"] == "bad"
    assert "one camera, one die or every part" in tile(plant)["troubles"][0]["next"]
    plant.verdict(13)
    assert headline(plant)[0] == "good"


def test_an_alarm_stands_until_the_event_that_ends_it(plant: Plant) -> None:
    alarm(plant, "output-away", 1)
    assert headline(plant) == ("bad", "n is in alarm (output-away)")
    assert tile(plant)["troubles"][0]["words"] == "in alarm (output-away)"
    plant.at_s = 5
    alarm(plant, "output-back", 2, Severity.INFO)
    assert headline(plant)[0] == "good"
    events = {event["event"]: event["next"] for event in plant.shows()["events"]}
    assert events["output-away"].startswith("Check the controller")
    assert events["output-back"] == ""


def test_an_alarm_outlives_the_time_that_a_page_shows(plant: Plant) -> None:
    """A late view of a part that passed: nothing ends it, so it stands for a shift."""
    alarm(plant, "late-view", 1)
    plant.at_s = 5 * 3600
    for name in ("n", "m"):
        plant.says(State.RUNNING, "judging", name)
    assert headline(plant, window_s=900) == ("bad", "n is in alarm (late-view)")
    assert plant.shows(window_s=900)["events"] == []
    plant.at_s = 9 * 3600
    for name in ("n", "m"):
        plant.says(State.RUNNING, "judging", name)
    assert headline(plant, window_s=900)[0] == "good"


def test_many_events_push_no_alarm_out(plant: Plant) -> None:
    alarm(plant, "output-fault", 1)
    for seq in range(2, 700):
        alarm(plant, "view-changed", seq, Severity.INFO)
    assert headline(plant) == ("bad", "n is in alarm (output-fault)")
    alarm(plant, "output-acknowledged", 700, Severity.INFO)
    assert headline(plant)[0] == "good"


def test_an_end_that_comes_before_its_alarm_ends_it(plant: Plant) -> None:
    """From two sources of messages, or a history that is read beside the broker."""
    plant.at_s = 5
    alarm(plant, "output-back", 2, Severity.INFO)
    plant.at_s = 0
    alarm(plant, "output-away", 1)
    assert headline(plant)[0] == "good"


def test_a_plant_with_more_stations_than_are_shown_is_not_called_well(plant: Plant) -> None:
    for number in range(STATIONS - 1):
        plant.says(State.RUNNING, "judging", f"n{number}")
    tone, text = headline(plant)
    assert tone == "care"
    assert (
        text == f"All {STATIONS} stations are well; stations beyond these {STATIONS} are not shown"
    )


def test_a_missing_message_is_named(plant: Plant) -> None:
    plant.verdict(1)
    plant.verdict(4)
    assert headline(plant) == ("care", "n is missing messages")
    plant.verdict(2)
    plant.verdict(3)
    assert headline(plant)[0] == "good"


def drifting(plant: Plant, station: str) -> None:
    """A steady die whose score rises at the end."""
    for step in range(60):
        plant.at_s = 40 * step
        score = 0.5 + 0.01 * (step % 3) + (3 if step > 53 else 0)
        drift = DriftFinding(score, 0.6, 9.0, "padim", {"padim": 0.6})
        said = content(good(), time=plant.now.utc).model_copy(
            update={"drift": content(good()).drift and _fields(drift)}
        )
        plant.hear(Kind.VERDICT, said, step + 1, station=station)


def _fields(drift: DriftFinding) -> Any:
    known = content(good()).drift
    assert known is not None
    return known.model_copy(update={"score": drift.score})


def test_a_chart_out_of_control_is_named_with_station_and_die(plant: Plant) -> None:
    """Charts are by station: the same die of a steady line is not mixed into it."""
    drifting(plant, "m")
    plant.verdict(1, station="n")
    assert headline(plant) == ("care", "m is out of control (Die01)")
    charts = plant.shows()["drift"]["charts"]
    assert [(one["station"], one["now_out"]) for one in charts] == [("s/m", True), ("s/n", False)]
    assert "lamp" in charts[0]["next"]


def test_the_worst_of_each_station_is_counted_where_many_are_troubled(plant: Plant) -> None:
    for name, state in (("a", State.DEAD), ("b", State.DEAD), ("c", State.DEGRADED)):
        plant.says(state, "cable", name)
    assert headline(plant) == ("bad", "2 dead, 1 degraded of 5 stations: a, b, c")
    assert headline(plant, station="s/c") == ("care", "s/c is degraded")


def test_a_planned_stop_is_stopped_and_grey(plant: Plant) -> None:
    plant.says(State.DEAD, STOPPED)
    assert (tile(plant)["state"], tile(plant)["tone"]) == ("STOPPED", "none")
    assert headline(plant) == ("good", "1 stopped of 2 stations")
    plant.says(State.DEAD, STOPPED, "m")
    assert headline(plant) == ("none", "2 stopped of 2 stations")
    plant.says(State.DEAD, "stopped; state before: FAULT disk full", "m")
    assert headline(plant) == ("bad", "m is dead")


def test_a_dead_station_has_no_rates_of_the_moment(plant: Plant) -> None:
    plant.verdict(1)
    plant.beats(latency_ms={"p99": 4.0}, queue=1)
    plant.at_s = 1
    assert (tile(plant)["rate"], tile(plant)["p99"], tile(plant)["queue"]) == (0.1, 4.0, 1)
    plant.says(State.DEAD, "connection lost")
    assert (tile(plant)["rate"], tile(plant)["p99"], tile(plant)["queue"]) == (None, None, None)
    assert tile(plant)["all"] == 1


def test_a_broker_that_ends_kills_no_station(plant: Plant) -> None:
    """It publishes every last will before it goes; the stations continue to judge."""
    plant.at_s = 100
    for name in ("n", "m"):
        plant.says(State.DEAD, "connection lost without a goodbye message", name)
    plant.state.lose_broker(plant.now)
    tone, text = headline(plant)
    assert (tone, text) == ("none", "No connection to the broker since {since}; states unknown")
    assert plant.shows()["headline"]["since"] == "2026-03-02T12:01:40.000Z"
    assert {(one["state"], one["tone"]) for one in plant.shows()["stations"]} == {
        ("UNKNOWN", "none")
    }
    happened = [(one["event"], one["state"]) for one in plant.shows()["events"]]
    assert ("DEAD", "DEAD") not in happened
    assert happened[0] == ("broker-away", None)
    plant.at_s = 700
    plant.state.find_broker(plant.now)
    plant.says(State.RUNNING, "judging")
    assert tile(plant)["state"] == "RUNNING"
    # The other does not come back; what a broker retains of it is not its own word.
    plant.says(State.DEAD, "connection lost without a goodbye message", "m")
    assert tile(plant, "s/m")["state"] == "UNKNOWN"
    plant.at_s = 740
    plant.says(State.RUNNING, "judging")
    assert headline(plant) == ("bad", "m is dead")


def test_a_station_that_died_before_its_broker_stays_dead(plant: Plant) -> None:
    plant.says(State.DEAD, "connection lost")
    plant.at_s = WILLS_S + 1
    plant.state.lose_broker(plant.now)
    plant.state.find_broker(plant.now)
    plant.at_s += 60
    plant.says(State.RUNNING, "judging", "m")
    assert headline(plant) == ("bad", "n is dead")


def test_silence_is_not_counted_while_there_was_no_broker(plant: Plant) -> None:
    plant.beats()
    plant.at_s = 10
    plant.state.lose_broker(plant.now)
    plant.at_s = 600
    plant.state.find_broker(plant.now)
    assert tile(plant)["state"] == "RUNNING"
    plant.at_s = 620
    assert tile(plant)["state"] == "SILENT"


def test_what_waits_for_a_recorder_is_no_trouble_while_it_acknowledges(plant: Plant) -> None:
    plant.beats(outbox=OUTBOX)
    assert headline(plant)[0] == "good"
    assert (tile(plant)["waiting"], tile(plant)["outbox_grows"]) == (2, False)
    plant.beats(outbox={**OUTBOX, "waiting": 50})
    assert headline(plant) == ("care", "n is behind with its outbox")
    plant.state.feed("edge-qc/v1/s/n/ack", b"{}", plant.now)
    assert headline(plant)[0] == "good"
    plant.beats(outbox={**OUTBOX, "waiting": 5000})
    assert headline(plant) == ("care", "n is behind with its outbox")


def test_changes_of_state_are_events(plant: Plant) -> None:
    plant.at_s = 1
    plant.says(State.DEGRADED, "without a picture: north")
    plant.at_s = 2
    plant.says(State.DEGRADED, "without a picture: north")
    plant.says(State.RUNNING, "judging")
    told = [(one["event"], one["station"], one["severity"]) for one in plant.shows()["events"]]
    assert told[:2] == [("RUNNING", "s/n", "info"), ("DEGRADED", "s/n", "warning")]
    assert len(told) == 4
