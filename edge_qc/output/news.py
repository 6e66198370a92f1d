"""What an output has to tell: events, and faults that end GOOD until a person acknowledges."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from edge_qc.output.latch import Latch

Severity = Literal["info", "warning", "alarm"]
Tell = Callable[[str, str, Severity], None]
"""Takes an event's name, its detail and its severity; returns at once."""

_EVERY_S = 5.0


class Bulletin:
    """One output's; used from any thread."""

    def __init__(self, name: str, tell: Tell, latch: Latch) -> None:
        self._name, self._tell, self._latch = name, tell, latch
        self._told: dict[str, tuple[float, int]] = {}

    def info(self, event: str, detail: str) -> None:
        self._say(event, detail, "info")

    def alarm(self, event: str, detail: str) -> None:
        self._say(event, detail, "alarm")

    def _say(self, event: str, detail: str, severity: Severity) -> None:
        prefix = f"output {self._name}: "
        self._tell(event, prefix + detail.removeprefix(prefix), severity)

    def often(self, event: str, detail: str) -> None:
        """An event that may come with every part: the first at once, then one for all that came
        meanwhile."""
        told_s, since = self._told.get(event, (float("-inf"), 0))
        if time.monotonic() - told_s < _EVERY_S:
            self._told[event] = told_s, since + 1
            return
        more = f" ({since} more since the last such event)" if since else ""
        self._told[event] = time.monotonic(), 0
        self.alarm(event, detail + more)

    def fault(self, why: str) -> None:
        """GOOD ends until a person acknowledges."""
        self._latch.set(self._name, why)
        self.alarm("output-fault", why)

    def faulted(self) -> bool:
        """Whether any output of the station is in FAULT."""
        return bool(self._latch.standing())
