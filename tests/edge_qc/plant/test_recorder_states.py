"""The recorder hears of stations that come and go faster than it reads."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa

from edge_qc.plant.recorder import Recorder, Store, open_database
from edge_qc.plant.recorder.arrivals import arrival
from edge_qc.plant.recorder.tables import state_change
from edge_qc.publisher import Subscription
from edge_qc.publisher.connection.transport import Received
from tests.rig.publishing import TIME
from tests.rig.recording import ROOT, verdict


def state(name: str) -> bytes:
    message = {
        "schema": "edge-qc/state/1",
        "epoch": "e1",
        "site": "s",
        "station": "n",
        "state": name,
        "time": TIME.isoformat(),
    }
    return json.dumps(message).encode()


class Waiting:
    """A subscription with a backlog, read at once, and then the end."""

    trouble = None

    def __init__(self, backlog: list[tuple[str, bytes]], stop: threading.Event) -> None:
        self._backlog, self._stop = backlog, stop
        self.published: list[str] = []

    def read(self, timeout_s: float) -> Received | None:
        if not self._backlog:
            self._stop.set()
            return None
        level, payload = self._backlog.pop(0)
        return Received(cast(Any, None), f"{ROOT}/{level}", payload, False)

    def acknowledge(self, received: list[Received]) -> None:
        pass

    def publish(self, topic: str, payload: bytes) -> None:
        self.published.append(topic)


def test_a_station_that_began_and_died_in_one_group(tmp_path: Path) -> None:
    """A birth and a last will that were read together: recorded, and the recorder lives on."""
    stop = threading.Event()
    backlog = [("state", state("RUNNING")), ("verdict", verdict(1)), ("state", state("DEAD"))]
    subscription = Waiting(backlog, stop)
    engine = open_database(str(tmp_path / "records.sqlite"))
    recorder = Recorder(cast(Subscription, subscription), Store(engine))
    recorder.run(stop)
    engine.dispose()
    assert recorder.new == 1
    assert subscription.published == [f"{ROOT}/ack"]


def test_a_server_whose_clock_is_set_back_loses_no_change(tmp_path: Path) -> None:
    """The broker's repetitions of what it kept are still known."""
    engine = open_database(str(tmp_path / "records.sqlite"))
    store = Store(engine)

    def hear(name: str, hours: float, repeated: bool = False) -> None:
        one = arrival(f"{ROOT}/state", state(name), TIME + timedelta(hours=hours), repeated)
        assert one is not None
        store.record([one])

    hear("RUNNING", 5)
    hear("DEAD", 6)
    hear("RUNNING", 1)
    hear("DEAD", 2)
    hear("RUNNING", 3)
    hear("RUNNING", 3)
    hear("DEAD", 2, repeated=True)
    hear("FAULT", 1, repeated=True)
    with engine.connect() as db:
        query = sa.select(state_change.c.state).order_by(state_change.c.change_no)
        heard = list(db.execute(query).scalars())
    assert heard == ["RUNNING", "DEAD", "RUNNING", "DEAD", "RUNNING"]
    engine.dispose()
