"""The results that are on their way to the ejector with their parts: when each of them is there.

By time from the trigger, or by the edges of the belt's encoder; at once where the output is no
ejector. Used with the output's lock held.
"""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass, field

from edge_qc.output.encoder import Encoder
from edge_qc.output.result import Result
from edge_qc.settings import OutputTable

NOT_YET = float("inf")
LONG_AGO = -NOT_YET
_MOST = 256
"""Results that may be under way together."""
_UNREAD = "it has not been read yet"


@dataclass(order=True, slots=True)
class Due:
    """A result and when it is shown: ``at_s``, or with an encoder when the belt has come to edge
    ``edge`` (``at_s`` is set then; long ago if nobody knows where the part is). known_s: when the
    verdict was there. skipped: results before it were never shown."""

    edge: int
    at_s: float
    number: int
    counter: int = field(compare=False)
    result: Result = field(compare=False)
    known_s: float = field(compare=False)
    skipped: bool = field(compare=False)


class Schedule:
    """encoder_trouble: why the encoder cannot be read; None while all is well."""

    def __init__(self, table: OutputTable) -> None:
        self._table = table
        self._encoder = None if table.encoder is None else Encoder()
        self.encoder_trouble = None if self._encoder is None else _UNREAD
        self._under_way: list[Due] = []

    def when(self, result: Result, now_s: float) -> tuple[int, float]:
        """``edge`` and ``at_s`` of a result that is known at ``now_s``."""
        if result.triggered_s is None or not self._table.at_ejector:
            return 0, now_s
        if self._encoder is None:
            return 0, result.triggered_s + self._table.delay_ms / 1e3
        passed = self._encoder.passed(result.triggered_s)
        if passed is None or self.encoder_trouble is not None:
            return 0, LONG_AGO
        return passed + self._table.delay_edges, NOT_YET

    def add(self, due: Due) -> int:
        """Returns how many results had to give way: too many are under way."""
        heapq.heappush(self._under_way, due)
        if len(self._under_way) <= _MOST:
            return 0
        self._under_way.remove(max(self._under_way))
        heapq.heapify(self._under_way)
        return 1

    def next_s(self) -> float:
        """When the next result is there, as far as is known."""
        if not self._under_way:
            return NOT_YET
        first = self._under_way[0]
        encoder = self._encoder
        if encoder is not None and first.at_s == NOT_YET and first.edge <= encoder.count:
            first.at_s = encoder.moment(first.edge)
        return first.at_s

    def take(self) -> Due | None:
        """The next result, if it is there by now."""
        return heapq.heappop(self._under_way) if self.next_s() <= time.monotonic() else None

    def clear(self) -> list[Due]:
        """Forget them all. Returns them."""
        gone, self._under_way = self._under_way, []
        return gone

    def edge(self, at_s: float) -> bool:
        """The encoder gave an edge at ``at_s``. Returns whether a result is there by it."""
        assert self._encoder is not None
        self._encoder.edge(at_s)
        return bool(self._under_way) and self._under_way[0].edge <= self._encoder.count

    def edges_lost(self) -> None:
        """Where the parts are that were triggered before now, nobody knows any more."""
        assert self._encoder is not None
        self._encoder.lost(time.monotonic())
