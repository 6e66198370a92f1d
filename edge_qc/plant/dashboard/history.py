"""Verdicts of the last hours, counted in bins by their own time.

A late verdict counts at its own time, not at its arrival. Memory is fixed: a ring of bins for each
pair of station and die.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_qc.parts import Disposition

BIN_S = 20
BINS = 1_440
"""Eight hours, a shift."""

_AHEAD = 64
_RING = BINS + 2 * _AHEAD

SOURCES = 2_048
LABELS = 32
OTHER = "other"
"""The name under which labels and dies beyond the limit are counted, so that invented names take no
memory."""

Source = tuple[str, str]
"""A station and a die."""

PASSED, REJECTED, REVIEW, UNJUDGED = range(4)
"""What became of a view or a part. UNJUDGED: a view that was not judged, an incomplete part; each
counts there alone, whatever its disposition."""
OUTCOMES = 4

Counts = NDArray[np.integer[Any]]
Figures = NDArray[np.floating[Any]]
_OUTCOME = {
    Disposition.PASS: PASSED,
    Disposition.REJECT: REJECTED,
    Disposition.REVIEW: REVIEW,
}


@dataclass(frozen=True, slots=True)
class Window:
    """A section of the history in ``steps`` intervals. Axes: source, interval, and for ``labels``
    the label, for ``outcomes`` PASSED, REJECTED, REVIEW, UNJUDGED.

    sources: each with its place on the first axis. of_station: the places of each station's. times:
    each interval's start, seconds since 1970. drift: score over threshold; worst is NaN if nothing
    was judged. latency_worst: milliseconds, or NaN.
    """

    sources: tuple[Source, ...]
    of_station: Mapping[str, Sequence[int]]
    label_names: tuple[str, ...]
    times: NDArray[np.float64]
    labels: Counts
    outcomes: Counts
    historical: Counts
    drift_sum: Figures
    drift_count: Counts
    drift_worst: Figures
    latency_worst: Figures

    def of(self, station: str | None = None, die: str | None = None) -> NDArray[np.bool_]:
        """Select the sources of a station and a die."""
        mask = np.zeros(len(self.sources), bool)
        places = range(len(mask)) if station is None else self.of_station.get(station, ())
        mask[[at for at in places if die in (None, self.sources[at][1])]] = True
        return mask


class History:
    """Counts verdicts. Times are seconds since 1970, UTC."""

    def __init__(self) -> None:
        self._sources: dict[Source, int] = {}
        self._labels: dict[str, int] = {}
        self._newest = 0
        self._labelled = np.zeros((8, _RING, 8), np.int32)
        self._disposed = np.zeros((8, _RING, OUTCOMES), np.int32)
        self._late = np.zeros((8, _RING), np.int32)
        self._drift_sum = np.zeros((8, _RING), np.float32)
        self._drift_n = np.zeros((8, _RING), np.int32)
        self._drift_worst = np.full((8, _RING), -np.inf, np.float32)
        self._latency_worst = np.full((8, _RING), -np.inf, np.float32)

    def add(
        self,
        source: Source,
        time_s: float,
        label: str,
        disposition: Disposition,
        *,
        judged: bool = True,
        drift: float | None = None,
        latency_ms: float | None = None,
        historical: bool = False,
    ) -> bool:
        """Count one verdict; False if it is older than the history.

        judged: False for a view without a verdict of its own, and an incomplete part. drift: score
        over threshold.
        """
        number = int(time_s // BIN_S)
        self.advance(time_s)
        if number <= self._newest - BINS:
            return False
        at, slot, labelled = self._source(source), number % _RING, self._label(label)
        self._labelled[at, slot, labelled] += 1
        self._disposed[at, slot, _OUTCOME[disposition] if judged else UNJUDGED] += 1
        if historical:
            self._late[at, slot] += 1
        if drift is not None:
            self._drift_sum[at, slot] += drift
            self._drift_n[at, slot] += 1
            self._drift_worst[at, slot] = max(self._drift_worst[at, slot], drift)
        if latency_ms is not None and latency_ms > self._latency_worst[at, slot]:
            self._latency_worst[at, slot] = latency_ms
        return True

    def advance(self, time_s: float) -> None:
        """Advance to ``time_s``: bins older than the ring are dropped."""
        number = int(time_s // BIN_S)
        if number <= self._newest:
            return
        # Clear the bins ahead too, since a window may end within an interval.
        first = max(self._newest, number - _RING) + 1
        slots = np.arange(first + _AHEAD, number + _AHEAD + 1) % _RING
        for counts in (self._labelled, self._disposed, self._late, self._drift_sum, self._drift_n):
            counts[:, slots] = 0
        for worst in (self._drift_worst, self._latency_worst):
            worst[:, slots] = -np.inf
        self._newest = number

    def window(self, seconds: int, steps: int) -> Window:
        """The last ``seconds`` in at most ``steps`` intervals of whole bins."""
        bins = min(BINS, max(1, seconds // BIN_S))
        joined = min(_AHEAD, -(-bins // steps))
        # Intervals begin at fixed times, so that a chart moves by whole steps and does not flicker.
        last = (self._newest // joined + 1) * joined
        first = last - joined * -(-bins // joined)
        slots = np.arange(first, last) % _RING
        count, used = len(self._sources), max(1, len(self._labels))

        def summed(array: NDArray[Any]) -> NDArray[Any]:
            part = array[:count, slots]
            split = (count, len(slots) // joined, joined, *part.shape[2:])
            total: NDArray[Any] = part.reshape(split).sum(2)
            return total

        def worst(array: NDArray[np.float32]) -> NDArray[np.float32]:
            part = array[:count, slots].reshape(count, len(slots) // joined, joined).max(2)
            return np.where(np.isfinite(part), part, np.nan)

        of_station: dict[str, list[int]] = {}
        for (station, _), at in self._sources.items():
            of_station.setdefault(station, []).append(at)
        return Window(
            sources=tuple(self._sources),
            of_station=of_station,
            label_names=tuple(self._labels),
            times=np.arange(first, last, joined, dtype=np.float64) * BIN_S,
            labels=summed(self._labelled[:, :, :used]),
            outcomes=summed(self._disposed),
            historical=summed(self._late),
            drift_sum=summed(self._drift_sum),
            drift_count=summed(self._drift_n),
            drift_worst=worst(self._drift_worst),
            latency_worst=worst(self._latency_worst),
        )

    def _source(self, source: Source) -> int:
        at = self._sources.get(source)
        if at is not None:
            return at
        if len(self._sources) >= SOURCES - 1:
            source = (OTHER, OTHER)
            if source in self._sources:
                return self._sources[source]
        at = self._sources[source] = len(self._sources)
        if at == len(self._late):
            for name in _BY_SOURCE:
                array = getattr(self, name)
                empty = (
                    np.zeros_like(array) if "worst" not in name else np.full_like(array, -np.inf)
                )
                setattr(self, name, np.concatenate([array, empty]))
        return at

    def _label(self, label: str) -> int:
        at = self._labels.get(label)
        if at is not None:
            return at
        if len(self._labels) >= LABELS - 1:
            label = OTHER
            if label in self._labels:
                return self._labels[label]
        at = self._labels[label] = len(self._labels)
        if at == self._labelled.shape[2]:
            self._labelled = np.concatenate([self._labelled, np.zeros_like(self._labelled)], axis=2)
        return at


_BY_SOURCE = (
    *("_labelled", "_disposed", "_late"),
    *("_drift_sum", "_drift_n", "_drift_worst", "_latency_worst"),
)
