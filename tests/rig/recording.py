"""What the tests of records share: messages as a broker delivers them, a recorder at work."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from edge_qc.plant.recorder import Recorder, Store
from edge_qc.plant.recorder.arrivals import Arrival, arrival
from edge_qc.publisher import Subscription
from edge_qc.settings import MqttTable
from tests.rig.publishing import TIME

ROOT = "edge-qc/v1/s/n"
TOPICS = [f"edge-qc/v1/+/+/{level}" for level in ("verdict", "part", "event", "overrule", "state")]


def verdict(seq: int, verdict_id: str | None = None, epoch: str = "e1", **fields: Any) -> bytes:
    """A verdict as it is on the wire."""
    label = fields.get("label", "GOOD")
    passes = "PASS" if label == "GOOD" else "REJECT"
    message: dict[str, Any] = {
        "schema": "edge-qc/verdict/1",
        "verdict_id": verdict_id or f"{epoch}-{seq}",
        "epoch": epoch,
        "seq": seq,
        "site": "s",
        "station": "n",
        "camera": "north",
        "die": "Die01",
        "part_id": f"part-{seq}",
        "trigger_id": f"t{seq}",
        "time": (TIME + timedelta(seconds=min(seq, 10**6))).isoformat(),
        "label": label,
        "disposition": "REVIEW" if label == "NOT_JUDGED" else passes,
        "reason": "restart" if label == "NOT_JUDGED" else "decided",
        "probabilities": {"GOOD": 0.75, "Missing": 0.25},
        "drift": {"score": 0.5, "p_value": 0.6, "threshold": 9.0, "witness": "padim",
                  "witnesses": {"padim": 0.6}},
        "expected_cost": {"GOOD": 1.5, "Missing": 2500.0},
        "bundle": {"id": "b" * 64, "version": 3},
        "latency_ms": {"view": 0.25, "engine": 4.5},
        "historical": False,
        **fields,
    }  # fmt: skip
    return json.dumps(message).encode()


def arrived(*payloads: bytes, level: str = "verdict", root: str = ROOT) -> list[Arrival]:
    found = [arrival(f"{root}/{level}", payload) for payload in payloads]
    assert None not in found
    return [one for one in found if one is not None]


@contextmanager
def recording(address: tuple[str, int], store: Store, **keys: Any) -> Iterator[Recorder]:
    """A recorder at work on a thread of its own."""
    subscription = Subscription(
        MqttTable(host=address[0], port=address[1]), TOPICS, session="rec", session_s=600
    )
    recorder, stop = Recorder(subscription, store, **keys), threading.Event()
    thread = threading.Thread(target=recorder.run, args=(stop,))
    thread.start()
    try:
        yield recorder
    finally:
        stop.set()
        thread.join(20)
        subscription.close()
    assert not thread.is_alive()


def part(seq: int, at: datetime, label: str = "GOOD", complete: bool = True) -> bytes:
    """A part's verdict as it is on the wire, from the station that ``ROOT`` names."""
    said = {
        "schema": "edge-qc/part/1", "epoch": "e1", "seq": seq, "site": "s", "station": "n",
        "part_id": f"part-{seq}", "time": at.isoformat(), "label": label,
        "disposition": "PASS" if label == "GOOD" and complete else "REJECT", "complete": complete,
        "labels": {"Die01": label}, "missing": [], "verdict_ids": [], "historical": False,
    }  # fmt: skip
    return json.dumps(said).encode()
