"""Triggers from outside: accepted on disk before a camera is asked, once each, or refused."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_qc.camera import Fault
from edge_qc.errors import CameraError
from edge_qc.line.dispatch import Dispatch, Post
from edge_qc.line.intake import Intake, Work
from edge_qc.output import ControllerTrigger
from edge_qc.parts import Reason
from edge_qc.publisher import Outbox, Space
from edge_qc.publisher.requests import ReplyStatus, TriggerReply
from edge_qc.settings import CameraTable, StationTable
from edge_qc.system.state import State
from tests.rig.publishing import content, open_outbox


def open_triggers(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """What is on disk, as another process would find it."""
    database = sqlite3.connect(folder / "outbox.sqlite")
    found = database.execute("SELECT verdict_id, record FROM trigger").fetchall()
    database.close()
    return [(verdict_id, json.loads(record)) for verdict_id, record in found]


class AskedCamera:
    """Notes what it is asked, and what was on disk by then."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self._folder = name, folder
        self.asked: list[tuple[str, str | None]] = []
        self.on_disk: list[set[str]] = []
        self.gone = False

    def trigger(self, trigger_id: str, part_id: str | None = None) -> None:
        if self.gone:
            raise CameraError(f"camera {self.name}: takes no trigger, it is ended")
        self.asked.append((trigger_id, part_id))
        self.on_disk.append({record["camera"] for _, record in open_triggers(self._folder)})


class Bench:
    """A dispatch with two cameras by message and one at a pin."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = State.RUNNING
        self.outbox: Outbox = open_outbox(folder)
        self.intake = Intake(self.outbox, 64, lambda frame: None)  # type: ignore[arg-type, return-value]
        self.cameras = {name: AskedCamera(name, folder) for name in ("a", "b", "pin")}
        self.posts = [
            self._post("a", "Die01", "mqtt"),
            self._post("b", "Die02", "mqtt"),
            self._post("pin", "Die03", "gpio:/dev/gpiochip0/17"),
        ]
        station = StationTable(site="s", name="n", state_dir=folder)
        self.dispatch = Dispatch(self.posts, station, self.outbox, self.intake, lambda: self.state)

    def _post(self, name: str, die: str, trigger: str) -> Post:
        table = {"name": name, "source": "file:///x", "die": die, "trigger": trigger}
        return Post(self.cameras[name], CameraTable.model_validate(table))  # type: ignore[arg-type]

    def say(self, **fields: Any) -> TriggerReply:
        return self.dispatch.message(json.dumps(fields).encode())

    def asked(self) -> list[str]:
        return [name for name, camera in self.cameras.items() for _ in camera.asked]

    def work(self) -> list[Work]:
        return self.intake.take(100)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.outbox.close()


def test_a_trigger_is_on_disk_for_all_its_cameras_before_any_is_asked(bench: Bench) -> None:
    reply = bench.say(trigger_id="t1", part_id="p1")
    assert reply.status is ReplyStatus.ACCEPTED
    assert set(reply.verdict_ids) == {"a", "b"}
    for name in ("a", "b"):
        camera = bench.cameras[name]
        assert camera.asked == [("t1", "p1")]
        assert camera.on_disk == [{"a", "b"}]
    ids = dict(open_triggers(bench.folder))
    assert set(ids) == set(reply.verdict_ids.values())
    record = ids[reply.verdict_ids["b"]]
    assert (record["die"], record["part_id"], record["trigger_id"]) == ("Die02", "p1", "t1")


def test_a_trigger_that_waited_to_be_taken_up_gets_no_picture(bench: Bench) -> None:
    """Behind a disk that hung, or a full queue: another part may lie there by now."""
    came_s = time.monotonic() - 60
    reply = bench.dispatch.message(b'{"trigger_id": "t1", "part_id": "p1"}', came_s)
    assert reply.status is ReplyStatus.ACCEPTED
    assert bench.asked() == []
    faults = [work.event for work in bench.work()]
    assert [fault.reason for fault in faults if isinstance(fault, Fault)] == [Reason.CAMERA] * 2
    assert "no picture taken" in faults[0].detail  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("address", "asked"),
    [({"camera": "b"}, ["b"]), ({"die": "Die01"}, ["a"]), ({}, ["a", "b"])],
)
def test_a_camera_or_a_die_is_addressed(bench: Bench, address: Any, asked: list[str]) -> None:
    assert bench.say(trigger_id="t1", **address).status is ReplyStatus.ACCEPTED
    assert bench.asked() == asked


def test_a_trigger_that_comes_again_does_nothing_and_is_answered_alike(bench: Bench) -> None:
    """The broker's redelivery, and a controller that asks again after its reply was lost."""
    first = bench.say(trigger_id="t1", part_id="p1")
    again = bench.say(trigger_id="t1", part_id="p1")
    assert again.status is ReplyStatus.DUPLICATE
    assert again.verdict_ids == first.verdict_ids
    assert bench.asked() == ["a", "b"]
    assert len(open_triggers(bench.folder)) == 2


def test_it_is_known_after_a_restart_too_whether_it_was_judged_or_not(tmp_path: Path) -> None:
    before = Bench(tmp_path)
    judged = before.say(trigger_id="judged", camera="a")
    before.outbox.verdict(judged.verdict_ids["a"], content()).result(10)
    unfinished = before.say(trigger_id="unfinished")
    before.outbox.close()
    after = Bench(tmp_path)
    for reply in (judged, unfinished):
        assert reply.trigger_id is not None
        again = after.say(trigger_id=reply.trigger_id)
        assert again.status is ReplyStatus.DUPLICATE
        assert again.verdict_ids == reply.verdict_ids
    assert after.asked() == []
    after.outbox.close()


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"", "schema"),
        (b"{", "schema"),
        (b"[1]", "schema"),
        (b"\xff\xfe", "schema"),
        (b"{}", "trigger_id"),
        (b'{"trigger_id": 7}', "trigger_id"),
        (b'{"trigger_id": ""}', "trigger_id"),
        (b'{"trigger_id": "a b"}', "trigger_id"),
        (b'{"trigger_id": "%s"}' % (b"x" * 65), "trigger_id"),
        (b'{"trigger_id": "t", "part_id": "a\\u0000b"}', "part_id"),
        (b'{"trigger_id": "t", "part_id": "%s"}' % (b"x" * 129), "part_id"),
        (b'{"trigger_id": "t", "label": "GOOD"}', "label: Extra"),
        (b'{"trigger_id": "t", "camera": "a", "die": "Die01"}', "not both"),
        (b'{"trigger_id": "t", "schema": "edge-qc/trigger/2"}', "schema"),
        (b'{"trigger_id": "t", "part_id": "%s"}' % (b"x" * 5000), "4096"),
        (b'{"trigger_id": "t", "camera": "c"}', "a (Die01), b (Die02)"),
        (b'{"trigger_id": "t", "camera": "pin"}', "a (Die01), b (Die02)"),
        (b'{"trigger_id": "t", "die": "Die09"}', "a (Die01), b (Die02)"),
    ],
)
def test_what_is_no_trigger_is_refused_with_the_reason(
    bench: Bench, message: bytes, why: str
) -> None:
    reply = bench.dispatch.message(message)
    assert reply.status is ReplyStatus.REFUSED
    assert why in reply.detail
    assert bench.asked() == []
    assert open_triggers(bench.folder) == []


@given(payload=st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["trigger_id", "camera", "x"]), inner, max_size=3),
    max_leaves=8,
).map(lambda document: json.dumps(document).encode()))  # fmt: skip
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_comes_is_answered(bench: Bench, payload: bytes) -> None:
    reply = bench.dispatch.message(payload)
    assert json.loads(reply.model_dump_json(by_alias=True))["schema"] == "edge-qc/reply/1"


@pytest.mark.parametrize("state", [s for s in State if s not in (State.RUNNING, State.DEGRADED)])
def test_a_station_that_does_not_judge_refuses(bench: Bench, state: State) -> None:
    bench.state = state
    reply = bench.say(trigger_id="t1")
    assert (reply.status, reply.detail) == (ReplyStatus.REFUSED, f"the station is {state.value}")
    assert bench.asked() == []


def test_a_line_that_stops_accepts_no_more(bench: Bench) -> None:
    bench.dispatch.close()
    assert bench.say(trigger_id="t1").status is ReplyStatus.REFUSED
    assert open_triggers(bench.folder) == []


def test_a_full_disk_refuses_and_asks_no_camera(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.outbox, "space", lambda: Space.FULL)
    reply = bench.say(trigger_id="t1")
    assert reply.status is ReplyStatus.REFUSED
    assert "the disk is full" in reply.detail
    assert bench.asked() == []
    assert bench.intake.refused == 1


def test_a_camera_that_cannot_be_asked_owes_its_verdict_all_the_same(bench: Bench) -> None:
    bench.cameras["a"].gone = True
    reply = bench.say(trigger_id="t1", part_id="p")
    assert reply.status is ReplyStatus.ACCEPTED
    assert bench.asked() == ["b"]
    (work,) = bench.work()
    assert work.verdict_id == reply.verdict_ids["a"]
    assert isinstance(work.event, Fault)
    assert work.event.reason is Reason.CAMERA
    assert "it is ended" in work.event.detail


def test_what_the_camera_delivers_is_recorded_once(bench: Bench) -> None:
    """Its frame or fault takes the verdict id that the reply named."""
    reply = bench.say(trigger_id="t1", camera="a")
    event = bench.cameras["a"]
    fault = Fault("a", "Die01", "t1", None, None, "no picture", Reason.CAMERA, content().time)
    assert event.asked
    bench.intake.deliver(fault)
    assert [work.verdict_id for work in bench.work()] == list(reply.verdict_ids.values())
    assert len(open_triggers(bench.folder)) == 1


def test_triggers_faster_than_the_camera_are_overruns(bench: Bench) -> None:
    """Each was accepted and has its verdict; the camera is not asked for pictures of parts that
    are long gone."""
    replies = [bench.say(trigger_id=f"t{i}", camera="a") for i in range(20)]
    assert {reply.status for reply in replies} == {ReplyStatus.ACCEPTED}
    work = bench.work()
    assert len(bench.cameras["a"].asked) == 20 - len(work) == 16
    reasons = {item.event.reason for item in work if isinstance(item.event, Fault)}
    assert reasons == {Reason.OVERRUN}


def test_an_edge_is_a_trigger_of_its_cameras(bench: Bench) -> None:
    reply = bench.dispatch.edge(bench.posts[2:])
    assert reply.status is ReplyStatus.ACCEPTED
    assert bench.asked() == ["pin"]


def test_one_trigger_may_be_one_part(bench: Bench) -> None:
    """A pin names no part; the views of one edge are joined all the same, where the line says
    so. A part that is named keeps its name."""
    joined = Dispatch(
        bench.posts,
        StationTable(site="s", name="n", state_dir=bench.folder),
        bench.outbox,
        bench.intake,
        lambda: State.RUNNING,
        part_per_trigger=True,
    )
    reply = joined.edge(bench.posts[2:])
    assert bench.cameras["pin"].asked == [(reply.trigger_id, reply.trigger_id)]
    joined.message(b'{"trigger_id": "t1", "part_id": "p1", "camera": "a"}')
    assert bench.cameras["a"].asked == [("t1", "p1")]


def test_an_edge_heard_of_too_late_takes_no_picture_of_the_next_part(bench: Bench) -> None:
    bench.dispatch.edge(bench.posts[2:], age_s=60.0)
    assert bench.asked() == []
    (work,) = bench.work()
    assert isinstance(work.event, Fault)
    assert work.event.reason is Reason.CAMERA


def test_what_a_controller_counted_brings_lot_and_serial_to_disk_and_to_the_loop(
    bench: Bench,
) -> None:
    trigger = ControllerTrigger(411, "W-1", "L7", "S9", time.monotonic())
    reply = bench.dispatch.counted(bench.posts[:1], trigger)
    assert reply.status is ReplyStatus.ACCEPTED
    assert str(reply.trigger_id).endswith(".411")
    ((_, record),) = open_triggers(bench.folder)
    assert (record["part_id"], record["lot"], record["serial"]) == ("W-1", "L7", "S9")
    again = bench.dispatch.counted(bench.posts[:1], trigger)
    assert again.trigger_id != reply.trigger_id, "a controller that begins anew is no duplicate"
