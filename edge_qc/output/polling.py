"""What a controller counts, read again and again: its triggers, and what its ejector confirms.

A count that is found after the connection was away says nothing of when: such triggers are lost,
and their parts, which have no verdict, are rejected.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_qc.errors import OutputError
from edge_qc.output.connection import Counted, Counters

log = logging.getLogger(__name__)

_RETRY_S = 0.5
_WORD = 1 << 16
_MOST_PAST_END = 1000
"""A count that is lower and yet further by more than this went past no end of its register: the
controller started again."""


@dataclass(frozen=True, slots=True)
class ControllerTrigger:
    """A trigger that a controller counted. came_s: when it was read (``time.monotonic``); it may
    have come one polling before."""

    count: int
    part: str | None
    lot: str | None
    serial: str | None
    came_s: float


class CounterWatch:
    """Reads from a thread of its own, which holds up no output."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], Counters],
        poll_s: float,
        *,
        on_lost: Callable[[int], None],
        on_confirmed: Callable[[float], None],
    ) -> None:
        """on_lost: with how many triggers nobody heard of. on_confirmed: with when the ejector
        moved."""
        self.turns = 0
        self.trouble: str | None = None
        self.on_trigger: Callable[[ControllerTrigger], object] | None = None
        self._name, self._connect, self._poll_s = name, connect, poll_s
        self._on_lost, self._on_confirmed = on_lost, on_confirmed
        self._before: Counted | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"counters-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.turns += 1
            counters = None
            try:
                counters = self._connect()
                self._begin(counters.read())
                self.trouble = None
                while not self._stopping.wait(self._poll_s):
                    self.turns += 1
                    self._look(counters.read(), time.monotonic())
            except OutputError as error:
                self._lost(str(error))
            except Exception as error:
                log.exception("counters of output %s", self._name)
                self._lost(f"output {self._name}: its counters failed: {error!r}")
            finally:
                if counters is not None:
                    counters.close()
            self._stopping.wait(_RETRY_S)

    def _lost(self, why: str) -> None:
        if self.trouble is None:
            log.warning("%s", why)
        self.trouble = f"{why}; nothing triggers until it is back"

    def _begin(self, found: Counted) -> None:
        before, self._before = self._before, found
        if before is not None and (lost := self._further(before.count, found.count)):
            self._on_lost(lost)

    def _look(self, found: Counted, now_s: float) -> None:
        before, self._before = self._before, found
        assert before is not None
        for _ in range(self._further(before.confirmed, found.confirmed)):
            self._on_confirmed(now_s)
        further = self._further(before.count, found.count)
        if further == 0:
            return
        assert found.count is not None
        if further > 1:
            self._on_lost(further - 1)
        if self.on_trigger is not None:
            trigger = ControllerTrigger(found.count, found.part, found.lot, found.serial, now_s)
            try:
                self.on_trigger(trigger)
            except Exception:
                log.exception(
                    "trigger %d of output %s could not be handled", found.count, self._name
                )

    def _further(self, before: int | None, found: int | None) -> int:
        """How many were counted in between; 0 where it started again, since nobody knows."""
        if before is None or found is None:
            return 0
        further = (found - before) % _WORD
        if found >= before or further <= _MOST_PAST_END:
            return further
        log.warning(
            "output %s: a count of the controller went from %d to %d, so it started again; nobody "
            "knows how many came in between",
            self._name,
            before,
            found,
        )
        return 0
