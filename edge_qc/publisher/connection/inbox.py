"""What the plant says to the station: levels below its root that it listens to.

Only the transport: sizes, threads, and that nothing heard can hurt the sender. What a message means
is its handler's. Each level has a thread of its own, so that a command that takes minutes holds up
no trigger.
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
"""Takes a payload, and when it came (``time.monotonic``): it may have waited for the one before."""

_Waiting = queue.Queue[tuple[bytes, float] | None]


class Inbox:
    """The levels listened to, and what waits for their handlers."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._queues: dict[str, _Waiting] = {}
        self._threads: list[threading.Thread] = []

    @property
    def levels(self) -> tuple[str, ...]:
        return tuple(self._queues)

    def listen(self, level: str, handler: Handler) -> None:
        """Has ``handler`` called with each payload on ``<root>/<level>``."""
        if level in self._queues:
            raise ValueError(f"{level!r} has its handler")
        waiting: _Waiting = queue.Queue(_WAITING)
        thread = threading.Thread(
            target=_serve, args=(level, waiting, handler), name=f"heard-{level}", daemon=True
        )
        thread.start()
        self._threads.append(thread)
        self._queues[level] = waiting

    def take(self, note: Received) -> None:
        """Hands a message over, or drops it and says so; never blocks, since paho calls it.

        What the broker had retained is not said now: a trigger or a command out of the past.
        """
        root, _, level = note.topic.rpartition("/")
        waiting = self._queues.get(level) if root == self._root else None
        if waiting is None:
            return
        size = len(note.payload)
        if note.retained:
            log.warning("%s: a retained message is not obeyed; publish it unretained", note.topic)
        elif size > LARGEST_BYTES:
            log.warning("%s: %d bytes, at most %d are read", note.topic, size, LARGEST_BYTES)
        else:
            try:
                waiting.put_nowait((note.payload, time.monotonic()))
            except queue.Full:
                log.warning("%s: %d messages wait already, one is dropped", note.topic, _WAITING)

    def close(self, timeout_s: float) -> None:
        """Ends each thread after the message that it is at."""
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
            log.exception("a message on …/%s could not be handled", level)
