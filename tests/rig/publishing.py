"""What the publisher's tests share: contents to send, and an ear at the broker."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from edge_qc.parts import Disposition, DriftFinding, Reason, Verdict
from edge_qc.publisher import (
    Outbox,
    Publisher,
    TriggerRecord,
    VerdictContent,
    verdict_content,
)
from edge_qc.settings import MqttTable, StationTable

TIME = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=timezone.utc)
ROOM = {"low_bytes": 0, "full_bytes": 0, "ballast_bytes": 4096}


def good(label: str = "GOOD") -> Verdict:
    return Verdict(
        label=label,
        disposition=Disposition.PASS if label == "GOOD" else Disposition.REJECT,
        reason=Reason.DECIDED,
        bundle_id="b" * 64,
        probabilities={"GOOD": 0.75, "Missing": 0.25},
        drift=DriftFinding(0.5, 0.6, 9.0, "padim", {"padim": 0.6, "embedding": 0.9}),
        expected_cost={"GOOD": 1.5, "Missing": 2500.0},
        latency_ms={"view": 0.25, "engine": 4.5},
    )


def content(verdict: Verdict | None = None, **fields: Any) -> VerdictContent:
    known: dict[str, Any] = {"camera": "north", "die": "Die01", "trigger_id": "t1", "time": TIME}
    return verdict_content(verdict or good(), **{**known, **fields})


def record(trigger_id: str = "t1") -> TriggerRecord:
    return TriggerRecord("north", "Die01", trigger_id, "part-1", TIME, "a.png")


def open_outbox(folder: Path, **room: Any) -> Outbox:
    return Outbox.open(folder / "outbox.sqlite", site="s", station="n", **{**ROOM, **room})


def judge(outbox: Outbox, count: int = 1) -> list[str]:
    """Records so many triggers with their verdicts; their ids, once they are durable."""
    ids = [str(uuid.uuid4()) for _ in range(count)]
    for verdict_id in ids:
        outbox.trigger(verdict_id, record())
        done = outbox.verdict(verdict_id, content())
    done.result(10)
    return ids


def sent(outbox: Outbox) -> list[dict[str, Any]]:
    """What waits in the outbox, as the broker would get it but for ``historical``."""
    return [json.loads(message.payload) for message in outbox.waiting(0, 10_000)]


def open_publisher(
    outbox: Outbox, folder: Path, address: tuple[str, int], late_s: float = 5.0, **keys: Any
) -> Publisher:
    mqtt = MqttTable(host=address[0], port=address[1], **keys)
    publisher = Publisher(
        mqtt, StationTable(site="s", name="n", state_dir=folder), outbox, late_s=late_s
    )
    publisher.start()
    return publisher


def wait_until(true: Callable[[], object], timeout_s: float = 15.0) -> None:
    until_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < until_s, "it did not come to pass in time"
        time.sleep(0.01)


class Ear:
    """Everything that the broker delivers, of any station, from the connection on."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self._subscribed = threading.Event()
        # MQTT 3.1.1, which amqtt speaks too.
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
        self._client.on_message = self._hear
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_connect = lambda client, *_: client.subscribe("edge-qc/#", 1)
        self._client.connect(*address)
        self._client.loop_start()
        assert self._subscribed.wait(10)

    def _hear(self, client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        kind = message.topic.rsplit("/", 1)[1]
        self.heard.append((kind, {**json.loads(message.payload), "retained": message.retain}))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for heard, message in list(self.heard) if heard == kind]

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        return self.of("verdict")

    @property
    def first_of_each(self) -> list[dict[str, Any]]:
        """The verdicts without their repetitions."""
        return list({v["verdict_id"]: v for v in reversed(self.verdicts)}.values())[::-1]

    @property
    def state(self) -> str:
        states = self.of("state")
        return str(states[-1]["state"]) if states else ""

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Ear:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
