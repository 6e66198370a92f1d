"""Which numbers of a counter have arrived, to find the missing ones.

A station's ``seq`` has no gap within an epoch, so a hole between received numbers is a missing
message. Messages before the first one received are unknown.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

_EPOCHS = 8
_RUNS = 1_000


@dataclass(frozen=True, slots=True)
class Gap:
    """Missing numbers, both ends inclusive."""

    epoch: str
    first: int
    last: int

    @property
    def count(self) -> int:
        return self.last - self.first + 1


class Numbers:
    """The numbers received of one station and kind, over its last epochs.

    Stored as runs without a hole, so that a single odd number takes no memory. Beyond a thousand
    holes in an epoch, the oldest are closed.
    """

    def __init__(self) -> None:
        self._runs: dict[str, list[list[int]]] = {}

    def note(self, epoch: str, seq: int) -> bool:
        """Add a number; False if it is a duplicate."""
        runs = self._runs.get(epoch)
        if runs is None:
            if len(self._runs) == _EPOCHS:
                del self._runs[next(iter(self._runs))]
            self._runs[epoch] = [[seq, seq]]
            return True
        last = runs[-1]
        if seq == last[1] + 1:
            last[1] = seq
            return True
        at = bisect.bisect_right(runs, seq, key=lambda run: run[0]) - 1
        if at >= 0 and seq <= runs[at][1]:
            return False
        runs.insert(at + 1, [seq, seq])
        self._join(runs, at + 1)
        self._join(runs, at)
        if len(runs) > _RUNS:
            runs[0][1] = runs[1][1]
            del runs[1]
        return True

    def has(self, epoch: str, seq: int) -> bool:
        """Whether a number has arrived."""
        runs = self._runs.get(epoch, [])
        at = bisect.bisect_right(runs, seq, key=lambda run: run[0]) - 1
        return at >= 0 and seq <= runs[at][1]

    def note_upto(self, epoch: str, upto: int) -> None:
        """Every number from 1 on up to this one is known to have arrived."""
        runs = self._runs.get(epoch)
        if runs is None:
            self.note(epoch, upto)
            runs = self._runs[epoch]
        later = [run for run in runs if run[1] > upto]
        self._runs[epoch] = [[1, upto], *later]
        if later and later[0][0] <= upto + 1:
            self._runs[epoch] = [[1, later[0][1]], *later[1:]]

    @staticmethod
    def _join(runs: list[list[int]], at: int) -> None:
        """Join a run with the next one if they touch."""
        if 0 <= at < len(runs) - 1 and runs[at][1] + 1 == runs[at + 1][0]:
            runs[at][1] = runs[at + 1][1]
            del runs[at + 1]

    def gaps(self) -> Iterator[Gap]:
        """The holes, oldest epoch first."""
        for epoch, runs in self._runs.items():
            for before, after in itertools.pairwise(runs):
                yield Gap(epoch, before[1] + 1, after[0] - 1)

    @property
    def missing(self) -> int:
        """How many numbers are missing."""
        return sum(gap.count for gap in self.gaps())
