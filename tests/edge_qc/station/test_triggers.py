"""A station that is triggered over MQTT, as a controller meets it: a real broker between them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import paho.mqtt.client as paho
import pytest

from edge_qc.publisher import OUTBOX_FILE
from edge_qc.settings import read_settings
from tests.rig.cameras import picture
from tests.rig.publishing import Ear, wait_until
from tests.rig.tiny_bundle import make_bundle

pytestmark = pytest.mark.broker


class Controller:
    """Sends triggers, and hears what the station says."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.ear = Ear(address)
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.connect(*address)
        self._client.loop_start()

    def trigger(self, retain: bool = False, **fields: Any) -> None:
        payload = json.dumps(fields)
        self._client.publish("edge-qc/v1/s/n/trigger", payload, 1, retain).wait_for_publish(10)

    def replies(self, status: str) -> list[dict[str, Any]]:
        return [reply for reply in self.ear.of("reply") if reply["status"] == status]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self.ear.close()


@pytest.fixture
def controller(mosquitto: tuple[str, int]) -> Iterator[Controller]:
    made = Controller(mosquitto)
    yield made
    made.close()


@pytest.fixture
def settings_file(tmp_path: Path, mosquitto: tuple[str, int]) -> Path:
    """Two cameras by trigger: a folder, and one that never gives a picture."""
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        cv2.imwrite(str(images / f"{number}.png"), picture(number))
    make_bundle(tmp_path / "bundle")
    file = tmp_path / "station.toml"
    file.write_text(
        '[station]\nsite = "s"\nname = "n"\nstate_dir = "state"\n'
        '[bundle]\npath = "bundle"\n'
        f'[mqtt]\nhost = "{mosquitto[0]}"\nport = {mosquitto[1]}\n'
        "[line]\ndrain_s = 5\npart_deadline_s = 60\n"
        f'[[camera]]\nname = "good"\nsource = "file://{images}"\ndie = "Die01"\n'
        'trigger = "mqtt"\nloop = true\n'
        f'[[camera]]\nname = "blind"\nsource = "scripted:{tmp_path}/count?{"idle " * 2000}"\n'
        'die = "Die01"\ntrigger = "mqtt"\ntimeout_s = 1.0\n',
        encoding="utf-8",
    )
    read_settings(file)
    return file


@contextmanager
def station(file: Path) -> Iterator[subprocess.Popen[str]]:
    """`edge-qc run` with the tests' scripted camera among its sources."""
    here = str(Path(__file__).parents[2] / "rig")
    code = (
        "import sys; from edge_qc.camera import SCHEMES;"
        "SCHEMES['scripted'] = 'scripted_camera:ScriptedCamera';"
        "sys.argv = ['edge-qc', 'run', '--config', sys.argv[1]];"
        "from edge_qc.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(file)],
        env={**os.environ, "PYTHONPATH": here},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_every_accepted_trigger_gets_one_verdict_and_a_picture_that_does_not_come_is_told(
    controller: Controller, settings_file: Path
) -> None:
    """Also through a redelivery, a SIGKILL between trigger and verdict, and a stop in order. While
    nothing is triggered nothing is said."""
    ear = controller.ear
    with station(settings_file) as process:
        wait_until(lambda: ear.state == "RUNNING")
        time.sleep(2.5)
        assert ear.verdicts == []
        controller.trigger(trigger_id="t1", part_id="p1", camera="good")
        controller.trigger(trigger_id="t1", part_id="p1", camera="good")
        controller.trigger(trigger_id="t2", part_id="p2")
        controller.trigger(trigger_id="bad", camera="nobody")
        wait_until(lambda: len(ear.verdicts) == 3)
        time.sleep(0.3)
        assert len(controller.replies("duplicate")) == 1
        assert [reply["trigger_id"] for reply in controller.replies("refused")] == ["bad"]
        verdicts = {(v["trigger_id"], v["camera"]): v for v in ear.verdicts}
        assert set(verdicts) == {("t1", "good"), ("t2", "good"), ("t2", "blind")}
        blind = verdicts["t2", "blind"]
        assert (blind["label"], blind["reason"]) == ("NOT_JUDGED", "camera")
        assert (blind["part_id"], blind["die"]) == ("p2", "Die01")
        assert verdicts["t1", "good"]["reason"] == "decided"
        # Between its acceptance and its verdict lies a second, in which the power goes.
        controller.trigger(trigger_id="t3", camera="blind")
        wait_until(lambda: len(controller.replies("accepted")) == 3)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    with station(settings_file) as process:
        wait_until(lambda: len(ear.first_of_each) == 4)
        wait_until(lambda: ear.state == "RUNNING")
        controller.trigger(trigger_id="t3", camera="blind")
        wait_until(lambda: len(controller.replies("duplicate")) == 2)
        controller.trigger(trigger_id="t4", camera="blind")
        wait_until(lambda: len(controller.replies("accepted")) == 4)
        process.terminate()
        _, log = process.communicate(timeout=20)
        assert process.returncode == 0, log
    wait_until(lambda: len(ear.first_of_each) == 5)
    by_trigger = Counter((v["trigger_id"], v["camera"]) for v in ear.first_of_each)
    assert set(by_trigger.values()) == {1}
    reasons = {v["trigger_id"]: v["reason"] for v in ear.first_of_each}
    assert reasons["t3"] == "restart"
    assert reasons["t4"] == "camera"
    promised = {i for r in controller.replies("accepted") for i in r["verdict_ids"].values()}
    assert promised == {v["verdict_id"] for v in ear.first_of_each}
    assert (settings_file.parent / "state" / OUTBOX_FILE).exists()


def test_a_retained_trigger_out_of_the_past_is_not_obeyed(
    controller: Controller, settings_file: Path
) -> None:
    controller.trigger(retain=True, trigger_id="old", camera="good")
    with station(settings_file):
        wait_until(lambda: controller.ear.state == "RUNNING")
        controller.trigger(trigger_id="new", camera="good")
        wait_until(lambda: controller.ear.verdicts)
        assert [v["trigger_id"] for v in controller.ear.verdicts] == ["new"]
