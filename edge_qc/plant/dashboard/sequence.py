"""Which numbers of a counter have come, so that what has not is known.

A station's ``seq`` has no gap within an epoch; what a listener did not get is a hole between the
numbers that it has. What came before the first one that it heard, nobody here knows.
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
    """Numbers that did not come, both ends included."""

    epoch: str
    first: int
    last: int

    @property
    def count(self) -> int:
        return self.last - self.first + 1


class Numbers:
    """The numbers heard of one station's messages of one kind, over its last epochs.

    Kept as runs without a hole, so that a number from nowhere takes no memory; past a thousand
    holes in an epoch the oldest close unfilled.
    """

    def __init__(self) -> None:
        self._runs: dict[str, list[list[int]]] = {}

    def note(self, epoch: str, seq: int) -> bool:
        """Notes a number; False where it has come before."""
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

    @staticmethod
    def _join(runs: list[list[int]], at: int) -> None:
        """Makes a run and its follower one where nothing lies between."""
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
        """How many numbers did not come."""
        return sum(gap.count for gap in self.gaps())
