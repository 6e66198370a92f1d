"""What the plant may ask over the broker: a state, a golden part, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edge_qc.camera import CameraState
from edge_qc.parts import Disposition
from edge_qc.publisher.connection.transport import Received
from edge_qc.publisher.requests import Reply
from edge_qc.settings import Settings
from edge_qc.system.state import State
from tests.edge_qc.station.test_golden_part import check
from tests.rig.stations import Station, put_in, running_station, settings_in
from tests.rig.tiny_bundle import make_bundle

ROOT = Path(__file__).parents[3]
PASS, REJECT = Disposition.PASS, Disposition.REJECT


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = settings_in(tmp_path / "state")
    put_in(settings, make_bundle(tmp_path / "v1"))
    return settings


class Plant:
    """Hands messages to the station's handler, and keeps what it answers."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self.replies: list[dict[str, Any]] = []
        publisher = station.line._publisher
        publisher.reply = self.replies.append  # type: ignore[assignment,method-assign]
        self._inbox = publisher._inbox

    def ask(self, payload: bytes) -> dict[str, Any]:
        before = len(self.replies)
        topic = f"{self._inbox._root}/command"
        self._inbox.take(Received(None, topic, payload, False, 1))  # type: ignore[arg-type]
        self._station.wait_until(lambda: len(self.replies) > before)
        reply = self.replies[-1]
        schema = json.loads((ROOT / "docs" / "mqtt" / "reply.schema.json").read_text())
        jsonschema.Draft202012Validator(schema).validate(reply)
        Reply.model_validate(reply)
        return reply


def command(**fields: Any) -> bytes:
    return json.dumps({"schema": "edge-qc/command/1", "request_id": "r-1"} | fields).encode()


def test_the_state_and_a_golden_part(settings: Settings) -> None:
    """As the retained state has it; and the check of a shift, passed and failed."""
    with running_station(settings) as station:
        plant = Plant(station)
        reply = plant.ask(command(command="status"))
        assert (reply["request_id"], reply["status"], reply["state"]) == ("r-1", "done", "RUNNING")
        assert reply["bundle"]["version"] == 1
        reply = plant.ask(command(command="golden-part"))
        assert reply["status"] == "refused"
        assert "is not recorded" in reply["detail"]
        with station.feed(PASS):
            check(settings, record=True)
            reply = plant.ask(command(command="golden-part"))
            assert reply["passed"]
            assert reply["views"][0]["label"] == "GOOD"
        with station.feed(REJECT):
            assert plant.ask(command(command="golden-part"))["passed"] is False
            station.wait_until(lambda: station.line.state is State.DEGRADED)
            assert "golden part" in plant.ask(command(command="status"))["detail"]


def test_the_status_says_why(settings: Settings) -> None:
    """Whatever it is: as the retained state says it, and not golden parts alone."""
    with running_station(settings) as station:
        plant = Plant(station)
        station.camera._state = CameraState.LOST
        station.wait_until(lambda: station.line.state is State.DEGRADED)
        reply = plant.ask(command(command="status"))
        assert (reply["state"], reply["detail"]) == ("DEGRADED", "no picture from hand")


_REFUSED = (
    b"",
    b"status",
    b"[" * 4000,
    command(command="install", slot={}),
    command(command="rollback"),
    command(command="pass-everything"),
    command(command="golden-part", record=True),
    command(command="golden-part", name="../x"),
    command(command="golden-part", within_s="60"),
    command(command="golden-part", within_s=1e9),
    command(command="status", padding="x" * 5000),
    b'{"command":"status"}',
)


def test_nothing_else_is_taken(settings: Settings) -> None:
    """Refused in words, each of them, and the station is what it was."""
    with running_station(settings) as station:
        plant = Plant(station)
        for payload in _REFUSED:
            assert plant.ask(payload)["status"] == "refused", payload
        assert plant.ask(command(command="status"))["state"] == "RUNNING"
        assert station.line.inspection.bundle.manifest.version == 1
    assert not (settings.station.state_dir / "golden-parts.json").exists()
