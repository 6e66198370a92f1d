"""Which numbers of a stream (an epoch's verdicts, parts or events) are settled; pure.

A number is settled when its message is recorded, or when the station has reported it lost. The
acknowledgement is cumulative: the highest number up to which all are settled.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]
"""First and last number, both inclusive."""


class Ranges:
    """A set of integers as sorted, disjoint ranges that do not touch."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._ranges: list[Range] = []
        for first, last in ranges:
            self.add(first, last)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._ranges, (number, _BEYOND)) - 1
        return at >= 0 and self._ranges[at][1] >= number

    def __iter__(self) -> Iterator[Range]:
        return iter(self._ranges)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self._ranges)

    def add(self, first: int, last: int) -> None:
        start = self._touching(first)
        end = start
        while end < len(self._ranges) and self._ranges[end][0] <= last + 1:
            first, last = min(first, self._ranges[end][0]), max(last, self._ranges[end][1])
            end += 1
        self._ranges[start:end] = [(first, last)]

    def remove(self, number: int) -> None:
        at = bisect_right(self._ranges, (number, _BEYOND)) - 1
        if at < 0 or self._ranges[at][1] < number:
            return
        first, last = self._ranges[at]
        rest = [(first, number - 1), (number + 1, last)]
        self._ranges[at : at + 1] = [(low, high) for low, high in rest if low <= high]

    def missing(self, first: int, last: int) -> list[Range]:
        """The numbers missing between two numbers, both inclusive."""
        found, free = [], first
        for low, high in self._ranges[self._touching(first) :]:
            if low > last:
                break
            if low > free:
                found.append((free, low - 1))
            free = max(free, high + 1)
        if free <= last:
            found.append((free, last))
        return found

    def end_from(self, first: int) -> int:
        """The last number of the run that begins at ``first``, which may be empty."""
        at = bisect_right(self._ranges, (first, _BEYOND)) - 1
        if at < 0 or self._ranges[at][1] < first:
            return first - 1
        return self._ranges[at][1]

    def _touching(self, first: int) -> int:
        """The first range that ends at or after ``first`` - 1."""
        at = bisect_right(self._ranges, (first, _BEYOND))
        return at - 1 if at and self._ranges[at - 1][1] >= first - 1 else at


_BEYOND = 2**64


class Progress:
    """One stream. lost: numbers that the station reported lost and that have not come since."""

    def __init__(self, settled: Iterable[Range] = (), lost: Iterable[Range] = ()) -> None:
        self._settled = Ranges(settled)
        self.lost = Ranges(lost)

    @property
    def upto(self) -> int:
        """The cumulative acknowledgement; 0 before number 1 is settled."""
        return self._settled.end_from(1)

    def wants(self, seq: int) -> bool:
        """Whether a number's message is still to be recorded."""
        return seq not in self._settled or seq in self.lost

    def add(self, seq: int) -> None:
        """A number's message was recorded."""
        self._settled.add(seq, seq)
        self.lost.remove(seq)

    def give_up(self, first: int, last: int) -> list[Range]:
        """Note that the station lost these. Returns those that are newly lost."""
        newly = self._settled.missing(first, last)
        self._settled.add(first, last)
        for low, high in newly:
            self.lost.add(low, high)
        return newly

    def open_gaps(self) -> list[Range]:
        """Numbers below the highest settled one that are neither recorded nor lost."""
        ranges = list(self._settled)
        return self._settled.missing(1, ranges[-1][1]) if ranges else []
