"""Triggers that wait for their frame."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

from edge_qc.system.bell import Bell


@dataclass(frozen=True, slots=True)
class Trigger:
    """Asked at ``monotonic_s``, to be answered by ``deadline_s`` on the same clock."""

    trigger_id: str
    part_id: str | None
    monotonic_s: float
    deadline_s: float


class Triggers:
    """Asked for from any thread, answered from one. ``fileno`` is readable when the bell rang."""

    def __init__(self) -> None:
        self._bell = Bell()
        self._lock = threading.Lock()
        self._asked: deque[Trigger] = deque()
        self._pending: dict[str, Trigger] = {}
        self._open = True

    def fileno(self) -> int:
        """The bell, to poll."""
        return self._bell.fileno()

    def ring(self) -> None:
        """Wake the camera's thread; of no effect once closed."""
        self._bell.ring()

    def ask(self, trigger_id: str, part_id: str | None, timeout_s: float) -> bool:
        """Add a trigger and ring; False once closed, where nobody would answer it."""
        now_s = time.monotonic()
        with self._lock:
            if self._open:
                self._asked.append(Trigger(trigger_id, part_id, now_s, now_s + timeout_s))
                self._bell.ring()
            return self._open

    def close(self) -> None:
        """Take no more triggers; those that wait can still be popped."""
        with self._lock:
            self._open = False
            self._bell.close()

    # From the camera's thread alone.

    def take_in(self) -> None:
        """Make pending what was asked for since the last call; an id that is pending already is
        not asked twice."""
        self._bell.hush()
        while self._asked:
            trigger = self._asked.popleft()
            self._pending.setdefault(trigger.trigger_id, trigger)

    def oldest(self) -> Trigger | None:
        """The pending trigger that was asked first."""
        return next(iter(self._pending.values()), None)

    def pop(self, trigger_id: str | None) -> Trigger | None:
        """The pending trigger of this id, no longer pending; None if its time is over."""
        return None if trigger_id is None else self._pending.pop(trigger_id, None)

    def pop_all(self) -> list[Trigger]:
        """All that wait."""
        self.take_in()
        waiting = list(self._pending.values())
        self._pending.clear()
        return waiting

    def pop_expired(self) -> list[Trigger]:
        """Those whose deadline is over."""
        now_s = time.monotonic()
        expired = [t for t in self._pending.values() if t.deadline_s <= now_s]
        for trigger in expired:
            del self._pending[trigger.trigger_id]
        return expired

    def next_deadline_s(self) -> float:
        """On ``time.monotonic``; infinite if none waits."""
        return min((t.deadline_s for t in self._pending.values()), default=float("inf"))
