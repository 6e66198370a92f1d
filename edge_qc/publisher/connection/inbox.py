"""Receives the plant's messages to the station, on the levels below its root that have a handler.

Transport only: it limits sizes, and no message can disturb the sender. Handlers interpret the
content. Each level has its own thread, so that a command that takes minutes delays no trigger.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from edge_qc.publisher.connection.transport import Received

LARGEST_BYTES = 64 * 1024

_WAITING = 256

log = logging.getLogger(__name__)

Handler = Callable[[bytes, float], None]
"""Takes a payload and its time of arrival (``time.monotonic``); it may have waited for an earlier
one."""

_Waiting = queue.Queue[tuple[bytes, float] | None]


class Inbox:
    """The levels with a handler, and the messages that wait for each."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._queues: dict[str, _Waiting] = {}
        self._threads: list[threading.Thread] = []

    @property
    def levels(self) -> tuple[str, ...]:
        return tuple(self._queues)

    def listen(self, level: str, handler: Handler) -> None:
        """Call ``handler`` with each payload on ``<root>/<level>``."""
        if level in self._queues:
            raise ValueError(f"{level!r} already has a handler")
        waiting: _Waiting = queue.Queue(_WAITING)
        thread = threading.Thread(
            target=_serve, args=(level, waiting, handler), name=f"heard-{level}", daemon=True
        )
        thread.start()
        self._threads.append(thread)
        self._queues[level] = waiting

    def take(self, note: Received) -> None:
        """Pass a message to its handler, or drop it and log that. Never blocks, because paho calls
        it.

        Retained messages are dropped: they are triggers or commands out of the past.
        """
        root, _, level = note.topic.rpartition("/")
        waiting = self._queues.get(level) if root == self._root else None
        if waiting is None:
            return
        size = len(note.payload)
        if note.retained:
            log.warning(
                "%s: ignored a retained message; publish it without the retain flag", note.topic
            )
        elif size > LARGEST_BYTES:
            log.warning(
                "%s: ignored a message of %d bytes; the limit is %d",
                note.topic,
                size,
                LARGEST_BYTES,
            )
        else:
            try:
                waiting.put_nowait((note.payload, time.monotonic()))
            except queue.Full:
                log.warning(
                    "%s: dropped a message, because %d are waiting already", note.topic, _WAITING
                )

    def close(self, timeout_s: float) -> None:
        """Stop each thread after its current message."""
        for waiting in self._queues.values():
            while True:
                try:
                    waiting.put_nowait(None)
                    break
                except queue.Full:
                    _drop(waiting)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout_s)


def _drop(waiting: _Waiting) -> None:
    try:
        waiting.get_nowait()
    except queue.Empty:
        return


def _serve(level: str, waiting: _Waiting, handler: Handler) -> None:
    while (message := waiting.get()) is not None:
        try:
            handler(*message)
        except Exception:
            log.exception("the handler of …/%s failed", level)
