"""A whole station with a controller: what it judges, it shows there, once it is on disk."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest

from edge_qc.errors import SettingsError
from edge_qc.output import map_of
from edge_qc.output.block import Fault
from edge_qc.output.latch import FILE, Latch
from edge_qc.output.layout import coded
from edge_qc.parts import Disposition
from edge_qc.settings import Settings
from edge_qc.station.opening import open_station
from edge_qc.system.control import connect
from edge_qc.system.state import State
from tests.rig.controllers import ModbusController, modbus_controller
from tests.rig.fake_broker import FakeBroker
from tests.rig.lines import messages, pictures
from tests.rig.publishing import wait_until
from tests.rig.stations import put_in, running_station, settings_in
from tests.rig.tiny_bundle import make_bundle


@pytest.fixture
def controller() -> Iterator[ModbusController]:
    with modbus_controller() as found:
        yield found


def settings_with(folder: Path, controller: ModbusController, **keys: Any) -> Settings:
    settings = settings_in(
        folder,
        output=[{"name": "plc", "target": controller.target, "deadline_ms": 5000, **keys}],
        metrics={"textfile": folder / "edge-qc.prom"},
        line={"drain_s": 0.01, "part_dies": ["Die01"], "queue": 64, "health_every_s": 0.1},
    )
    put_in(settings, make_bundle(folder / "bundle", batch=1))
    return settings


def test_camera_and_part_have_their_blocks(tmp_path: Path, controller: ModbusController) -> None:
    settings = settings_with(tmp_path, controller, hold_ms=0)
    found = map_of(settings, settings.output[0])
    hand, part = found.block("hand"), found.block("part")
    with running_station(settings) as station:
        station.wait_until(lambda: controller.coils[2] and controller.coils[5])
        station.camera.give(pictures()[Disposition.PASS], "W-1")
        station.wait_until(lambda: controller.coils[0] and controller.coils[3])
        station.camera.give(pictures()[Disposition.REJECT], "W-2")
        station.wait_until(lambda: not controller.coils[0] and not controller.coils[3])
        for area in (hand, part):
            assert controller.text(area, "part", found) == "W-2"
            assert controller.number(area, "counter", found) == 2
        trigger_id = station.said("verdict")[-1]["trigger_id"]
        assert controller.text(hand, "trigger", found) == trigger_id
        assert controller.text(part, "trigger", found) == trigger_id
        label = station.said("verdict")[-1]["label"]
        labels = station.line.inspection.bundle.manifest.labels
        assert controller.number(hand, "label", found) == labels.index(label) + 1
        metrics = tmp_path / "edge-qc.prom"
        station.wait_until(
            lambda: (
                metrics.exists()
                and 'edge_qc_output_results_total{site="s",station="n",output="plc"} 4'
                in metrics.read_text()
            )
        )
    assert controller.coils[:6] == [0, 0, 0, 0, 0, 0]


def test_a_controller_that_is_away_makes_the_station_degraded(
    tmp_path: Path, controller: ModbusController
) -> None:
    settings = settings_with(tmp_path, controller)
    controller.stop()
    with running_station(settings) as station:
        station.wait_until(lambda: station.line.state is State.DEGRADED)
        station.camera.give(pictures()[Disposition.PASS], "W-1")
        station.wait_until(lambda: bool(station.said("verdict")))
        assert station.said("verdict")[0]["disposition"] == "PASS"
        controller.start()
        station.wait_until(lambda: station.line.state is State.RUNNING)
        assert not controller.coils[0]
        assert not controller.coils[3]
    events = [said["event"] for said in station.said("event")]
    assert [event for event in events if event.startswith("output")] == [
        *("output-away", "output-back")
    ]


def test_a_fault_ends_good_until_a_person_acknowledges(
    tmp_path: Path, controller: ModbusController
) -> None:
    settings = settings_with(tmp_path, controller)
    Latch(tmp_path / FILE).set("plc", "the ejector was silent")
    found = map_of(settings, settings.output[0])
    with running_station(settings, State.FAULT) as station:
        station.camera.give(pictures()[Disposition.PASS], "W-1")
        station.wait_until(lambda: controller.number(found.block("part"), "counter", found) == 1)
        assert controller.number(found.block("part"), "fault", found) & Fault.INCOMPLETE
        assert controller.number(found.block("hand"), "fault", found) & Fault.NOT_JUDGED
        client = connect(tmp_path, command="output-acknowledge")
        assert client is not None
        with client:
            (answer,) = client.answers()
        assert answer["acknowledged"] == {"plc": "the ejector was silent"}
        station.wait_until(lambda: station.line.state is State.RUNNING)
        station.camera.give(pictures()[Disposition.PASS], "W-2")
        station.wait_until(lambda: bool(controller.coils[0] and controller.coils[3]))
    assert "output-acknowledged" in json.dumps(station.said("event"))


def test_what_was_acknowledged_while_no_station_ran_is_published_once_by_the_next(
    tmp_path: Path, controller: ModbusController
) -> None:
    """Whoever is notified of the fault waits for its end."""
    settings = settings_with(tmp_path, controller)
    latch = Latch(tmp_path / FILE)
    latch.set("plc", "the ejector was silent")
    latch.acknowledge_for_next_start()
    latch.acknowledge_for_next_start()
    for _ in range(2):
        with running_station(settings, State.RUNNING) as station:
            pass
        details = [said["detail"] for said in station.said("event") if "acknow" in said["event"]]
        assert details == ["output plc: the ejector was silent"]


def test_a_person_who_has_looked_ends_an_alarm_that_was_no_fault(
    tmp_path: Path, controller: ModbusController
) -> None:
    """Whoever is notified of alarms waits for that, whatever the station remembers of them."""
    with running_station(settings_with(tmp_path, controller), State.RUNNING) as station:
        client = connect(tmp_path, command="output-acknowledge")
        assert client is not None
        with client:
            (answer,) = client.answers()
        assert answer["acknowledged"] == {}
        station.wait_until(
            lambda: "output-acknowledged" in [said["event"] for said in station.said("event")]
        )


@pytest.mark.parametrize(
    ("missing", "more", "said"),
    [
        ("pymodbus.client", {}, "the package pymodbus is not installed"),
        (None, {"confirm": "count", "confirm_register": 3}, "overlap"),
        ("gpiod", {"confirm": "gpio:/dev/gpiochip0/22"}, "the package gpiod is not installed"),
    ],
)
def test_a_station_that_cannot_open_its_outputs_says_fault_and_why(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    controller: ModbusController,
    missing: str | None,
    more: dict[str, Any],
    said: str,
) -> None:
    """To the plant too, which would else read of a stop while it was starting."""
    if missing is not None:
        monkeypatch.setitem(sys.modules, missing, None)
    with FakeBroker() as broker:
        settings = settings_with(tmp_path, controller, **more)
        mqtt = settings.mqtt.model_copy(update={"port": broker.address[1]})
        settings = settings.model_copy(update={"mqtt": mqtt})
        with pytest.raises(SettingsError, match=said), open_station(settings, threading.Event()):
            pass
        wait_until(lambda: any(b'"DEAD"' in state for state in broker.states))
    assert any(b'"FAULT"' in state and said.encode() in state for state in broker.states)


def test_the_controller_triggers_and_its_words_come_back(
    tmp_path: Path, controller: ModbusController
) -> None:
    """A register that counts takes the picture; part, lot and serial stand in the verdict, and the
    count in the block that answers it."""
    images = tmp_path / "images"
    images.mkdir()
    cv2.imwrite(str(images / "0.png"), pictures()[Disposition.PASS])
    settings = settings_in(
        tmp_path,
        camera=[
            {
                "name": "hand",
                "source": f"file://{images}/",
                "die": "Die01",
                "loop": True,
                "trigger": "output:plc",
                "timeout_s": 20,
            }
        ],
        output=[{"name": "plc", "target": controller.target, "deadline_ms": 60_000, "hold_ms": 0}],
    )
    put_in(settings, make_bundle(tmp_path / "bundle", batch=1))
    found = map_of(settings, settings.output[0])
    assert found.trigger is not None
    stop = threading.Event()
    with open_station(settings, stop) as line:
        thread = threading.Thread(target=line.run, args=(stop,))
        thread.start()
        try:
            _until(lambda: controller.coils[2] and not line.troubles)
            time.sleep(0.2)  # Its first reading only says from where on it counts.
            for field, text in (("part", "W-7"), ("lot", "L1"), ("serial", "S1")):
                own = found.trigger.field(field)
                words = coded(text, own, found.table)
                controller.set(found.trigger.register + own.at, *words)
            controller.set(found.trigger.register + found.trigger.field("count").at, 5)
            _until(lambda: controller.coils[0] and controller.coils[3])
            assert controller.text(found.block("hand"), "part", found) == "W-7"
            assert controller.number(found.block("part"), "trigger_number", found) == 5
        finally:
            stop.set()
            thread.join(20)
    (verdict,) = messages(tmp_path, "verdict")
    assert (verdict["part_id"], verdict["lot"], verdict["serial"]) == ("W-7", "L1", "S1")
    assert verdict["trigger_id"].endswith(".5")
    (part,) = messages(tmp_path, "part")
    assert (part["lot"], part["serial"]) == ("L1", "S1")


def _until(happened: Callable[[], object]) -> None:
    until_s = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < until_s, "it did not happen"
        time.sleep(0.005)
