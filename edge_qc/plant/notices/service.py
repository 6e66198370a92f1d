"""Listens to the broker and sends what a person must hear of."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edge_qc.errors import PublishError
from edge_qc.plant.notices.conditions import Conditions, Key, Notice
from edge_qc.publisher import Kind, Received, Subscription, parse_topic, read_message
from edge_qc.system.whole_file import write_whole

_TURN_S = 0.5

log = logging.getLogger(__name__)


def watch(
    subscription: Subscription,
    where: str,
    conditions: Conditions,
    send: Callable[[Notice], None],
    stop: threading.Event,
    memory: Path | None = None,
) -> None:
    """Send notices until ``stop`` is set. where: the broker, in words. memory: a file of the
    conditions that were noticed, so that a restart repeats none."""
    written: list[Key] | None = None
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
        if memory is not None and conditions.noticed != written:
            written = conditions.noticed
            _remember(memory, written)
        subscription.acknowledge(taken)


def remembered(memory: Path | None) -> list[Key]:
    """The conditions that ``watch`` had noticed; none if the file is missing or damaged."""
    if memory is None:
        return []
    with suppress(OSError, ValueError, TypeError):
        return [(str(station), str(name)) for station, name in json.loads(memory.read_text())]
    return []


def _remember(memory: Path, noticed: list[Key]) -> None:
    try:
        write_whole(memory, json.dumps(noticed).encode())
    except OSError as error:
        log.warning("%s: %s; a restart may repeat notices", memory, error)


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
