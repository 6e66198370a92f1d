"""A broker that is killed: what it acknowledged is there with the settings that we ship but for its
last moment, and is lost with its own; with a recorder nothing is lost either way."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import func, select

from edge_qc.errors import PublishError
from edge_qc.plant.recorder import Store, open_database, tables
from edge_qc.plant.recorder.arrivals import Source
from edge_qc.publisher import Kind
from edge_qc.system.state import State
from tests.rig.brokers import HOST, free_port
from tests.rig.programs import find, needs
from tests.rig.publishing import judge, open_outbox, open_publisher, wait_until
from tests.rig.recording import recording

pytestmark = [
    pytest.mark.broker,
    needs("mosquitto"),
]

SHIPPED = Path(__file__).parents[3] / "deploy" / "mosquitto" / "edge-qc.conf"
DURABLE = ("persistence", "autosave", "max_queued", "max_inflight", "persistent_client")
COUNT = 400
SOURCE = Source("s", "n")


def shipped() -> list[str]:
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.startswith(DURABLE)]
    assert "persistence true" in kept
    return [line for line in kept if not line.startswith("persistence_location")]


class Broker:
    """A mosquitto that may be killed and started again over the same folder."""

    def __init__(self, folder: Path, lines: Sequence[str]) -> None:
        folder.mkdir()
        self.address = HOST, free_port()
        self._file = folder / "mosquitto.conf"
        self._file.write_text(
            "\n".join(
                [f"listener {self.address[1]} {HOST}", "allow_anonymous true",
                 f"persistence_location {folder}/", *lines]
                + (["user root"] if os.geteuid() == 0 else [])
            )
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        executable = find("mosquitto")
        assert executable is not None
        self._process = subprocess.Popen(
            [executable, "-c", self._file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


def had_after_a_kill(folder: Path, lines: Sequence[str], *, recorder: bool) -> tuple[int, int]:
    """How many of ``COUNT`` verdicts a recorder has that was away while they were published and
    the broker was killed behind them; how many the station holds on to."""
    broker = Broker(folder / "broker", lines)
    engine = open_database(str(folder / "records.sqlite"))

    def connected() -> bool:
        try:
            with recording(broker.address, Store(engine)):
                return True
        except PublishError:
            return False

    try:
        wait_until(connected)
        with open_outbox(folder) as outbox:
            publisher = open_publisher(outbox, folder, broker.address, recorder=recorder)
            publisher.state(State.RUNNING, "judging")
            judge(outbox, COUNT)
            if recorder:
                wait_until(lambda: publisher.connected)
            else:
                assert publisher.drain(30)
            broker.kill()
            broker.start()
            wait_until(connected)
            with recording(broker.address, Store(engine)) as now:
                # The event comes behind all that the broker still has.
                wait_until(lambda: publisher.connected)
                outbox.event("the-last").result(10)
                assert publisher.drain(30)
                wait_until(lambda: Store(engine).upto(SOURCE, outbox.epoch, Kind.EVENT) == 1)
                before = -1
                while now.new != before:
                    before = now.new
                    time.sleep(0.5)
            held = outbox.status().waiting
            publisher.close()
        with engine.connect() as db:
            had = int(db.execute(select(func.count()).select_from(tables.verdict)).scalar_one())
    finally:
        engine.dispose()
        broker.kill()
    return had, held


def test_the_shipped_settings_lose_no_more_than_the_last_moment(tmp_path: Path) -> None:
    """mosquitto answers first and writes its file then: killed in between, it has acknowledged a
    message that is gone (one, in most of the tries). Only a recorder closes that gap."""
    had, held = had_after_a_kill(tmp_path, shipped(), recorder=False)
    assert held == 0
    assert COUNT - 5 <= had <= COUNT


def test_a_broker_as_it_comes_loses_all_that_it_acknowledged(tmp_path: Path) -> None:
    """The control: this is what the settings and the recorder are for."""
    assert had_after_a_kill(tmp_path, ["persistence true"], recorder=False) == (0, 0)


def test_with_a_recorder_no_broker_loses_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_qc.publisher.connection.recorded.RESEND_S", 0.6)
    monkeypatch.setattr("edge_qc.plant.recorder.service.REPEAT_S", 0.3)
    assert had_after_a_kill(tmp_path, ["persistence false"], recorder=True) == (COUNT, 0)
