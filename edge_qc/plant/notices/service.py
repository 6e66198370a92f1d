"""Listens to the broker and sends what a person must hear of."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edge_qc.errors import PublishError
from edge_qc.plant.notices.conditions import Conditions, Notice
from edge_qc.plant.notices.memory import Memory, keep
from edge_qc.publisher import Kind, Received, Subscription, parse_topic, read_message

_TURN_S = 0.5


def watch(
    subscription: Subscription,
    where: str,
    conditions: Conditions,
    send: Callable[[Notice], None],
    stop: threading.Event,
    memory: Path | None = None,
) -> None:
    """Send notices until ``stop`` is set. where: the broker, in words. memory: the file
    of what was noticed, so that a restart repeats none."""
    written: Memory | None = None
    while not stop.is_set():
        received = subscription.read(_TURN_S)
        taken = []
        while received is not None:
            _hear(received, conditions)
            taken.append(received)
            received = subscription.read(0.0)
        conditions.broker(where, subscription.trouble, time.monotonic())
        for notice in conditions.due(time.monotonic()):
            send(notice)
        if memory is not None and conditions.memory != written:
            written = conditions.memory
            keep(memory, written)
        subscription.acknowledge(taken)


def _hear(received: Received, conditions: Conditions) -> None:
    found = parse_topic(received.topic)
    if found is None:
        return
    site, name, kind = found
    if not received.payload:
        if kind is Kind.STATE:
            conditions.forget(f"{site}/{name}")
        return
    with suppress(PublishError):
        message = read_message(kind, received.payload)
        conditions.hear(f"{site}/{name}", message, time.monotonic())
