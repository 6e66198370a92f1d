"""Station, broker and recorder are killed, and what the records call downtime is compared with the
clock of a referee who did it; SQLite and PostgreSQL."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from edge_qc.plant.recorder import open_database, states
from edge_qc.plant.recorder import tables as t
from edge_qc.plant.recorder.where import Where
from tests.rig.brokers import free_port
from tests.rig.programs import find, need
from tests.rig.publishing import wait_until

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[3]
SLACK_S = 3.0
"""What a loaded machine may take to notice a death; an outage of the referee lasts longer."""
OUT_S = 5.0

Times = tuple[float, float]


class Plant:
    """A broker that keeps what it had across its own restarts, a station, a recorder."""

    def __init__(self, folder: Path, database: str) -> None:
        need("mosquitto")
        self.port, self.database, self.folder = free_port(), database, folder
        settings = folder / "mosquitto.conf"
        settings.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\n"
            f"persistence true\npersistence_location {folder}/\nautosave_interval 1\n"
            "max_queued_messages 0\n"
        )
        self._settings = settings
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str) -> float:
        """Start of broker, station and recorder these, side by side; when they were there."""
        for what in names:
            self._launch(what)
        for what in names:
            self._await(what)
        return time.time()

    def _launch(self, what: str) -> None:
        address = ("127.0.0.1", str(self.port))
        commands: dict[str, list[Any]] = {
            "broker": [find("mosquitto"), "-c", self._settings],
            "station": [sys.executable, "-m", "tests.rig.living_station", self.folder, *address],
            "recorder": [
                sys.executable, "-m", "edge_qc.cli", "record", "--broker", ":".join(address),
                "--database", self.database,
            ],
        }  # fmt: skip
        said = subprocess.PIPE if what == "station" else subprocess.DEVNULL
        heard = subprocess.PIPE if what == "recorder" else subprocess.DEVNULL
        self.running[what] = subprocess.Popen(commands[what], stdout=said, stderr=heard, cwd=ROOT)

    def _await(self, what: str) -> None:
        process = self.running[what]
        if what == "broker":
            wait_until(lambda: _listens(self.port))
        elif what == "station":
            assert process.stdout is not None
            assert process.stdout.readline() == b"judging\n"
        else:
            assert process.stderr is not None
            assert b"recording" in process.stderr.readline()

    def end(self, what: str, how: int = signal.SIGKILL) -> float:
        process = self.running.pop(what)
        now = time.time()
        process.send_signal(how)
        process.wait(20)
        return now

    def close(self) -> None:
        for what in list(self.running):
            self.end(what)


def _listens(port: int) -> bool:
    import socket

    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


@pytest.fixture
def plant(tmp_path: Path, database: str) -> Iterator[Plant]:
    with ExitStack() as stack:
        plant = Plant(tmp_path, database)
        stack.callback(plant.close)
        open_database(database).dispose()
        plant.start("broker")
        plant.start("recorder", "station")
        yield plant


def seen(plant: Plant, state: str) -> int:
    engine = open_database(plant.database, create=False)
    with engine.connect() as db:
        query = sa.select(sa.func.count()).where(t.state_change.c.state == state)
        count = int(db.execute(query).scalar_one())
    engine.dispose()
    return count


def outages(plant: Plant) -> list[tuple[datetime, datetime | None, str]]:
    engine = open_database(plant.database, create=False)
    rows = states.downtime(engine, Where()).rows
    engine.dispose()
    # Behind its first start.
    return [(row[1], row[2], row[4]) for row in rows if "DEAD" in row[6]]


def timeline(plant: Plant) -> list[tuple[Any, ...]]:
    engine = open_database(plant.database, create=False)
    rows = states.timeline(engine, Where()).rows
    engine.dispose()
    return rows


def require_same(found: list[tuple[datetime, datetime | None, str]], meant: list[Times]) -> None:
    assert len(found) == len(meant), found
    slack = timedelta(seconds=SLACK_S)
    for (since, until, _), times in zip(found, meant, strict=True):
        began, ended = (datetime.fromtimestamp(one, timezone.utc) for one in times)
        assert abs(since - began) < slack, (since, began)
        assert until is not None
        assert abs(until - ended) < slack, (until, ended)


def test_a_killed_station_was_down_until_it_judged_again(plant: Plant) -> None:
    wait_until(lambda: seen(plant, "RUNNING") == 1)
    died = plant.end("station")
    wait_until(lambda: seen(plant, "DEAD") == 1)
    time.sleep(OUT_S)
    judged = plant.start("station")
    wait_until(lambda: seen(plant, "RUNNING") == 2)
    found = outages(plant)
    require_same(found, [(died, judged)])
    assert found[0][2] == "connection lost without a goodbye message"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_broker_that_stops_is_no_downtime_of_a_station(plant: Plant, how: int) -> None:
    """Its last wills say DEAD of a station that judges on."""
    wait_until(lambda: seen(plant, "RUNNING") == 1)
    for _ in range(2):
        time.sleep(2)
        plant.end("broker", how)
        time.sleep(2)
        plant.start("broker")
        dead = seen(plant, "DEAD")
        wait_until(lambda dead=dead: seen(plant, "RUNNING") > min(dead, 1), 40)  # type: ignore[misc]
    time.sleep(OUT_S)
    # The last will may have come after the broker: then the station has yet to contradict it.
    wait_until(lambda: timeline(plant)[-1][1] == "RUNNING", 40)
    assert outages(plant) == []
    rows = timeline(plant)
    assert rows[-1][1] == "RUNNING"
    assert all(row[5] for row in rows if row[1] == states.AWAY)


def test_what_happened_while_the_recorder_was_dead_is_known_afterwards(plant: Plant) -> None:
    wait_until(lambda: seen(plant, "RUNNING") == 1)
    time.sleep(2)
    plant.end("recorder")
    died = plant.end("station")
    time.sleep(OUT_S)
    judged = plant.start("station")
    time.sleep(OUT_S)
    plant.start("recorder")
    wait_until(lambda: seen(plant, "RUNNING") == 2)
    require_same(outages(plant), [(died, judged)])


def test_a_station_that_dies_while_the_broker_is_away(plant: Plant) -> None:
    """Nobody saw it die: its last verdicts, which come late, say until when it lived."""
    wait_until(lambda: seen(plant, "RUNNING") == 1)
    time.sleep(2)
    plant.end("broker", signal.SIGTERM)
    time.sleep(OUT_S)
    died = plant.end("station")
    time.sleep(OUT_S)
    judged = plant.start("station")
    time.sleep(1)
    plant.start("broker")
    wait_until(lambda: seen(plant, "RUNNING") == 2, 60)
    wait_until(lambda: abs(outages(plant)[0][0].timestamp() - died) < SLACK_S, 30)
    require_same(outages(plant), [(died, judged)])


def test_all_three_are_killed_at_once(plant: Plant) -> None:
    """As by a power cut: no last will, no message of an end, and another epoch afterwards."""
    wait_until(lambda: seen(plant, "RUNNING") == 1)
    time.sleep(2)
    plant.end("broker")
    died = plant.end("station")
    plant.end("recorder")
    time.sleep(OUT_S)
    for what in ("broker", "recorder"):
        plant.start(what)
    judged = plant.start("station")
    wait_until(lambda: seen(plant, "RUNNING") == 2, 40)
    require_same(outages(plant), [(died, judged)])
    assert outages(plant)[0][2] == states.UNHEARD
