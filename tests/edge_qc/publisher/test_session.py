"""What one connection sends, and what it does not send twice. The broker is a list."""

from __future__ import annotations

import itertools
import json
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import paho.mqtt.client as paho

from edge_qc.publisher import Kind
from edge_qc.publisher.connection.recorded import RecorderWatch
from edge_qc.publisher.connection.session import Session
from edge_qc.publisher.connection.transport import Acknowledged, Note
from tests.rig.publishing import judge, open_outbox, wait_until


class Client:
    """As much of paho's as a session sends by. sent: message ids, levels and numbers."""

    protocol = paho.MQTTv5

    def __init__(self) -> None:
        self.sent: list[tuple[int, str, int]] = []
        self._ids = itertools.count(1)

    def publish(self, topic: str, payload: bytes, *_: Any) -> SimpleNamespace:
        mid = next(self._ids)
        self.sent.append((mid, topic.rpartition("/")[2], json.loads(payload)["seq"]))
        return SimpleNamespace(rc=0, mid=mid)


def test_what_left_while_a_refused_topic_was_tried_again_is_not_sent_again(tmp_path: Path) -> None:
    """Its rest over, one event travels alone; verdicts that were on their way then have left."""
    client, notes, resting = Client(), deque[Note](), dict[Kind, tuple[float, str]]()
    loop = SimpleNamespace(client=client, notes=notes, run=lambda timeout_s: None)
    with open_outbox(tmp_path) as outbox:
        session = Session(
            loop,  # type: ignore[arg-type]
            "edge-qc/v1/s/n",
            outbox,
            resting,
            window=64,
            late_s=5,
            largest_bytes=10**8,
        )

        def answer(*mids: int, refused: str | None = None) -> None:
            for mid in mids:
                notes.append(Acknowledged(client, mid, refused, False))  # type: ignore[arg-type]
            session.listen(0.01)
            session.fill()

        outbox.event("lamp-ageing").result(10)
        judge(outbox, 1)
        session.fill()
        answer(1, refused="Not authorized")
        answer(2)
        judge(outbox, 8)
        session.fill()
        on_their_way = [mid for mid, _, _ in client.sent[2:]]
        assert len(on_their_way) == 8
        resting[Kind.EVENT] = time.monotonic() - 1, "Not authorized"
        session.fill()
        answer(*on_their_way)
        wait_until(lambda: outbox.status().waiting == 1)
        answer(client.sent[-1][0], refused="Not authorized")
        verdicts = [number for _, level, number in client.sent if level == "verdict"]
        assert verdicts == list(range(1, 10))


def test_a_recorder_that_is_silent_is_said_to_be_since_when_in_words_that_stay() -> None:
    """They are part of the state: words that change each second would be a state each second."""
    watch = RecorderWatch("e1", silent_s=10.0)
    watch.connected(100.0)
    said = [watch.silence(100.0 + seconds) for seconds in (5, 11, 12, 400)]
    assert said[0] is None
    assert said[1] is not None
    assert "silent since 20" in said[1]
    assert said[1:] == [said[1]] * 3
    watch.connected(500.0)
    assert watch.silence(505.0) is None
