"""Listens to the broker and sends what a person must hear of."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edge_qc.errors import PublishError
from edge_qc.plant.notices.conditions import Conditions, Notice
from edge_qc.plant.notices.memory import Memory, keep
from edge_qc.publisher import Kind, Received, Subscription, parse_topic, read_message

_TURN_S, _RETRY_S = 0.5, 5.0

log = logging.getLogger(__name__)


def watch(
    connect: Callable[[], Subscription],
    where: str,
    conditions: Conditions,
    send: Callable[[Notice], None],
    stop: threading.Event,
    memory: Path | None = None,
) -> None:
    """Send notices until ``stop`` is set. connect: opens the subscription; PublishError is a broker
    that is away, and tried again. where: the broker, in words. memory: the file of what was
    noticed, so that a restart repeats none."""
    subscription: Subscription | None = None
    written: Memory | None = None
    retry_s, trouble = 0.0, None
    try:
        while not stop.is_set():
            if subscription is None and time.monotonic() >= retry_s:
                try:
                    subscription = connect()
                except PublishError as error:
                    if trouble is None:
                        log.warning("%s; trying again", error)
                    trouble = str(error)
                    retry_s = time.monotonic() + _RETRY_S
            taken = []
            if subscription is None:
                stop.wait(_TURN_S)
            else:
                received = subscription.read(_TURN_S)
                while received is not None:
                    _hear(received, conditions)
                    taken.append(received)
                    received = subscription.read(0.0)
                trouble = subscription.trouble
            conditions.broker(where, trouble, time.monotonic())
            for notice in conditions.due(time.monotonic()):
                send(notice)
            if memory is not None and conditions.memory != written:
                written = conditions.memory
                keep(memory, written)
            if subscription is not None:
                subscription.acknowledge(taken)
    finally:
        if subscription is not None:
            subscription.close()


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
