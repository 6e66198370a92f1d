"""Which images to delete when there are too many; pure.

An image's value is its doubt, halved for each week of age: uncertain images stay longer than sure
ones, recent longer than old. Its logarithm relative to a fixed date does not change with time, so
it is computed once. A person's label adds four weeks. An image of tomorrow was taken while the
clock was ahead: it counts as the oldest, or it would push out every new one.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Collection, Iterator

from edge_qc.evidence.store import Exhibit

_HALF_LIFE_S = 7 * 86_400.0
_LEAST_DOUBT = 1 / 64
_LABELLED = 4.0
_BLOCK = 4096
_AHEAD_S = 86_400.0


def worth(exhibit: Exhibit, now_s: float, labelled: bool = False) -> float:
    """In half-lives; only differences matter. now_s: seconds since 1970."""
    doubt = max(exhibit.doubt, _LEAST_DOUBT)
    taken_s = exhibit.time.timestamp()
    if taken_s > now_s + _AHEAD_S:
        taken_s = 0.0
    return math.log2(doubt) + taken_s / _HALF_LIFE_S + (_LABELLED if labelled else 0)


class Shelves:
    """The kept images by label, least valuable first, and their total size."""

    def __init__(self) -> None:
        self.bytes = 0
        self._shelves: dict[str, list[tuple[float, str, Exhibit]]] = {}
        self._bytes: dict[str, int] = {}

    def __len__(self) -> int:
        # A copy, made at once: the heartbeat asks while another thread puts a new label's first.
        return sum(map(len, list(self._shelves.values())))

    def count(self, label: str) -> int:
        """How many of one label."""
        return len(self._shelves.get(label, ()))

    def put(self, exhibit: Exhibit, now_s: float, labelled: bool = False) -> None:
        """Take one in. now_s: seconds since 1970."""
        entry = (worth(exhibit, now_s, labelled), exhibit.verdict_id, exhibit)
        bisect.insort(self._shelves.setdefault(exhibit.label, []), entry, key=lambda e: e[:2])
        size = room_of(exhibit)
        self._bytes[exhibit.label] = self._bytes.get(exhibit.label, 0) + size
        self.bytes += size

    def take_least(self, label: str | None = None) -> Exhibit | None:
        """Remove the least valuable image of ``label``, or of the label with most bytes, so that a
        frequent class does not displace rare ones. None if there is none."""
        if label is None:
            label = max(self._bytes, key=lambda name: self._bytes[name], default=None)
        if label is None or not self._shelves.get(label):
            return None
        _, _, exhibit = self._shelves[label].pop(0)
        size = room_of(exhibit)
        self._bytes[label] -= size
        self.bytes -= size
        if not self._shelves[label]:
            del self._shelves[label], self._bytes[label]
        return exhibit

    def exhibits(self) -> list[Exhibit]:
        """All of them."""
        return [entry[2] for shelf in self._shelves.values() for entry in shelf]

    def surplus(self, label: str, images: int, limit_bytes: int) -> Iterator[Exhibit]:
        """Remove images beyond the limit per label and the limit in bytes."""
        while self.count(label) > images and (exhibit := self.take_least(label)) is not None:
            yield exhibit
        while self.bytes > limit_bytes and (exhibit := self.take_least()) is not None:
            yield exhibit


def room_of(exhibit: Exhibit) -> int:
    """Bytes on disk: four files and two folders take whole blocks."""
    return exhibit.size_bytes + 3 * _BLOCK


def fill(
    shelves: Shelves, exhibits: Collection[Exhibit], labelled: Collection[str], now_s: float
) -> None:
    """Add the images present at the start. labelled: verdict ids that a person has labelled."""
    for exhibit in exhibits:
        shelves.put(exhibit, now_s, exhibit.verdict_id in labelled)
