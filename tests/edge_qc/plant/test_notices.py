"""Notices: once when something is wrong, once when it is over."""

from __future__ import annotations

import json
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edge_qc.errors import PublishError
from edge_qc.plant.notices import service
from edge_qc.plant.notices.conditions import Conditions, Notice
from edge_qc.plant.notices.memory import keep, recall
from edge_qc.publisher import Kind, Subscription, read_message
from edge_qc.settings import MqttTable
from edge_qc.system.state import STOP_REQUESTED, STOPPED, State
from tests.rig.publishing import TIME, open_outbox, open_publisher, wait_until
from tests.rig.recording import verdict

NAME = "s/n"


def state(name: str, why: str = "", epoch: str = "e", hours: float = 0) -> Any:
    fields = {"schema": "edge-qc/state/1", "epoch": epoch, "site": "s", "station": "n",
              "state": name, "time": at(hours), "why": why}  # fmt: skip
    return read_message(Kind.STATE, json.dumps(fields).encode())


def event(
    name: str,
    detail: str = "",
    camera: str | None = None,
    *,
    epoch: str = "e",
    seq: int = 1,
    hours: float = 0,
    late: bool = False,
) -> Any:
    fields = {"schema": "edge-qc/event/1", "epoch": epoch, "site": "s", "station": "n", "seq": seq,
              "event": name, "time": at(hours), "camera": camera, "detail": detail,
              "historical": late}  # fmt: skip
    return read_message(Kind.EVENT, json.dumps(fields).encode())


def at(hours: float) -> str:
    return (TIME + timedelta(hours=hours)).isoformat()


def titles(notices: list[Notice]) -> list[str]:
    return [notice.title for notice in notices]


def test_a_state_is_noticed_once_when_it_lasts_and_once_when_it_is_over() -> None:
    plant = Conditions(after_s=60)
    plant.hear(NAME, state("DEAD", "connection lost"), 0)
    plant.hear(NAME, state("RUNNING"), 30)
    assert plant.due(100) == []
    plant.hear(NAME, state("DEAD", "connection lost"), 100)
    assert plant.due(159) == []
    (notice,) = plant.due(161)
    assert notice.title == "s/n: DEAD"
    assert "connection lost" in notice.text
    assert "journalctl" in notice.text
    plant.hear(NAME, state("DEAD", "connection lost"), 170)
    assert plant.due(500) == []
    plant.hear(NAME, state("STARTING"), 501)
    assert titles(plant.due(501)) == ["s/n: over: DEAD"]
    plant.hear(NAME, state("DEAD", STOPPED), 600)
    assert plant.due(999) == []


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("camera-moved", "camera-moved-over"),
        ("good-parts-creep", "good-parts-creep-over"),
        ("output-unconfirmed", "output-acknowledged"),
    ],
)
def test_an_event_is_noticed_at_once_and_until_its_end(name: str, end: str) -> None:
    plant = Conditions()
    for _ in range(3):
        plant.hear(NAME, event(name, "by 4 % " * 100, "north"), 0)
    (notice,) = plant.due(0)
    assert notice.title == f"s/n: {name.replace('-', ' ')}"
    assert notice.text.startswith("north: by 4 %")
    # Cut, but not the advice behind it.
    assert "… " in notice.text
    assert len(notice.text) <= 500
    plant.hear(NAME, event(end), 1)
    assert [notice.over for notice in plant.due(1)] == [True]
    plant.hear(NAME, event(end), 2)
    assert plant.due(2) == []


def test_a_low_yield_ends_only_by_new_views() -> None:
    plant = Conditions(yield_below=0.9, views=10)

    def judged(label: str, count: int) -> list[Notice]:
        for _ in range(count):
            plant.hear(NAME, read_message(Kind.VERDICT, verdict(1, label=label)), 0)
        return plant.due(0)

    assert judged("GOOD", 9) == []
    assert judged("NOT_JUDGED", 50) == []
    assert judged("Missing", 1) == []
    (low,) = judged("Missing", 1)
    assert (low.title, low.text) == (
        "s/n: the yield is low", "80.0% of the last 10 views passed, wanted 90.0%."
    )  # fmt: skip
    assert judged("GOOD", 9) == []
    assert titles(judged("GOOD", 1)) == ["s/n: over: the yield is low"]


def test_a_broker_that_ends_makes_no_station_dead() -> None:
    """Its last wills come first, and again when it is back."""
    plant = Conditions(after_s=60)
    plant.hear(NAME, state("DEAD", "connection lost"), 0)
    plant.broker("b:1883", "the connection was lost", 1)
    assert titles(plant.due(200)) == ["b:1883: no connection to the broker; states unknown"]
    plant.broker("b:1883", None, 201)
    plant.hear(NAME, state("RUNNING"), 203)
    assert titles(plant.due(500)) == [
        "b:1883: over: no connection to the broker; states unknown"
    ]  # fmt: skip


def test_a_restart_repeats_nothing_and_still_tells_the_end(tmp_path: Path) -> None:
    memory = tmp_path / "noticed.json"
    memory.write_text(json.dumps([[NAME, "DEAD"]]))
    plant = Conditions(after_s=0, known=recall(memory))
    plant.hear(NAME, state("DEAD"), 0)
    assert plant.due(100) == []
    plant.forget(NAME)
    assert titles(plant.due(100)) == ["s/n: over: DEAD"]
    for damaged in ("{", "{}", "3", '[["s/n"]]', '{"noticed": [3], "ended": []}'):
        memory.write_text(damaged)
        assert not recall(memory).noticed


def restarted(plant: Conditions, folder: Path) -> Conditions:
    keep(folder / "noticed.json", plant.memory)
    return Conditions(known=recall(folder / "noticed.json"))


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    "meanwhile",
    [state("STARTING", epoch="e2", hours=2), state("RUNNING", hours=2)],
    ids=["another start", "in control"],
)
def test_a_missed_end_does_not_silence_the_next_alarm(
    meanwhile: Any, restart: bool, tmp_path: Path
) -> None:
    plant = Conditions()
    plant.hear(NAME, state("RUNNING"), 0)
    plant.hear(NAME, event("camera-moved", camera="north", hours=1), 1)
    # A broker repeats what it keeps.
    plant.hear(NAME, state("RUNNING"), 1)
    assert titles(plant.due(1)) == ["s/n: camera moved"]
    if restart:
        plant = restarted(plant, tmp_path)
    plant.hear(NAME, meanwhile, 2)
    assert titles(plant.due(2)) == ["s/n: over: camera moved"]
    again = event("camera-moved", camera="north", epoch=meanwhile.epoch, seq=2, hours=3)
    plant.hear(NAME, again, 3)
    assert titles(plant.due(3)) == ["s/n: camera moved"]


def test_each_camera_has_an_alarm_of_its_own() -> None:
    plant = Conditions()
    for seq, camera in enumerate(("north", "south"), 1):
        plant.hear(NAME, event("lamp-ageing", "by 4 %", camera, seq=seq), 0)
    assert [one.text[:5] for one in plant.due(0)] == ["north", "south"]
    plant.hear(NAME, event("lamp-ageing-over", camera="north", seq=3), 1)
    assert [one.text for one in plant.due(1)] == ["north: It is over."]
    plant.hear(NAME, event("lamp-ageing", camera="south", seq=4), 2)
    assert plant.due(2) == []
    plant.hear(NAME, event("lamp-ageing-over", camera="south", seq=5), 3)
    assert [one.text for one in plant.due(3)] == ["south: It is over."]


@pytest.mark.parametrize("epoch", ["e", "e2"])
def test_what_is_sent_again_raises_no_alarm_that_was_over(epoch: str, tmp_path: Path) -> None:
    """edge-qc outbox replay, of an hour with a fault that somebody has looked at since."""
    plant = Conditions()
    plant.hear(NAME, event("output-fault", seq=1), 0)
    plant.hear(NAME, event("output-acknowledged", epoch=epoch, seq=5, hours=1), 1)
    plant.due(1)
    for notifier in (plant, restarted(plant, tmp_path)):
        notifier.hear(NAME, event("output-fault", seq=1, late=True), 2)
        assert notifier.due(2) == []
        # A fault of now, and an end of before, sent again.
        notifier.hear(NAME, event("output-fault", epoch=epoch, seq=7, hours=3), 3)
        assert titles(notifier.due(3)) == ["s/n: output fault"]
        notifier.hear(NAME, event("output-acknowledged", epoch=epoch, seq=5, hours=1, late=True), 4)
        assert notifier.due(4) == []


def test_an_alarm_of_a_station_whose_clock_was_set_back_is_noticed() -> None:
    plant = Conditions()
    plant.hear(NAME, state("RUNNING", hours=9), 0)
    plant.hear(NAME, event("output-fault", seq=1, hours=9), 0)
    plant.hear(NAME, event("output-acknowledged", seq=2, hours=10), 0)
    plant.due(0)
    plant.hear(NAME, state("STARTING", epoch="e2"), 1)
    plant.hear(NAME, event("output-fault", epoch="e2"), 1)
    plant.hear(NAME, event("camera-moved", camera="north", epoch="e2", seq=2), 1)
    assert titles(plant.due(1)) == ["s/n: output fault", "s/n: camera moved"]


def test_a_broker_that_has_another_address_after_a_restart_silences_no_station(
    tmp_path: Path,
) -> None:
    plant = Conditions(after_s=0)
    plant.broker("old:1883", "refused", 0)
    assert len(plant.due(0)) == 1
    plant = restarted(plant, tmp_path)
    plant.broker("new:1883", None, 1)
    plant.hear(NAME, state("FAULT"), 100)
    assert "s/n: FAULT" in titles(plant.due(200))


@pytest.mark.broker
def test_a_fault_an_alarm_and_a_planned_stop_over_a_real_broker(
    mosquitto: tuple[str, int], tmp_path: Path
) -> None:
    sent: list[Notice] = []
    stop, memory = threading.Event(), tmp_path / "noticed.json"
    topics = [f"edge-qc/v1/+/+/{level}" for level in ("state", "event", "verdict")]
    table = MqttTable(host=mosquitto[0], port=mosquitto[1])
    conditions = Conditions(after_s=0.5)
    thread = threading.Thread(
        target=service.watch,
        args=(
            lambda: Subscription(table, topics, session="notify", session_s=60),
            "broker",
            conditions,
            sent.append,
            stop,
            memory,
        ),
    )
    thread.start()
    try:
        with open_outbox(tmp_path) as outbox:
            publisher = open_publisher(outbox, tmp_path, mosquitto)
            publisher.state(State.FAULT, "no engine")
            wait_until(lambda: titles(sent) == ["s/n: FAULT"])
            publisher.state(State.RUNNING, "judging")
            wait_until(lambda: titles(sent[1:]) == ["s/n: over: FAULT"])
            outbox.event("camera-moved", "by 4 %", camera="north").result(10)
            wait_until(lambda: titles(sent[2:]) == ["s/n: camera moved"])
            wait_until(lambda: list(recall(memory).noticed) == [(NAME, "north", "camera-moved")])
            outbox.event("camera-moved-over", "", camera="north").result(10)
            wait_until(lambda: titles(sent[3:]) == ["s/n: over: camera moved"])
            publisher.state(State.STOPPING, STOP_REQUESTED)
            publisher.close()
            time.sleep(1.5)
    finally:
        stop.set()
        thread.join(20)
    assert len(sent) == 4


@pytest.mark.broker
def test_a_broker_that_comes_after_the_notifier_is_noticed_and_listened_to(
    mosquitto: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_RETRY_S", 0.1)
    sent: list[Notice] = []
    stop = threading.Event()
    table = MqttTable(host=mosquitto[0], port=mosquitto[1])

    def connect() -> Subscription:
        if not sent:
            raise PublishError("refused")
        return Subscription(table, ["edge-qc/v1/+/+/event"], session="notify", session_s=60)

    thread = threading.Thread(
        target=service.watch, args=(connect, "b:1883", Conditions(after_s=0.5), sent.append, stop)
    )
    thread.start()
    away = "no connection to the broker; states unknown"
    try:
        wait_until(lambda: titles(sent) == [f"b:1883: {away}", f"b:1883: over: {away}"])
        with open_outbox(tmp_path) as outbox:
            publisher = open_publisher(outbox, tmp_path, mosquitto)
            outbox.event("camera-moved", "by 4 %", camera="north").result(10)
            wait_until(lambda: titles(sent[2:]) == [f"{NAME}: camera moved"])
            publisher.close()
    finally:
        stop.set()
        thread.join(20)
