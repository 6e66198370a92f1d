"""Figures over the history of a plant: what passed, why not, drift and latency. Pure.

Each function returns one section of the page: plain values, as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_qc.parts import GOOD
from edge_qc.plant.dashboard.advice import DRIFTING
from edge_qc.plant.dashboard.control import chart
from edge_qc.plant.dashboard.history import Counts, Figures, Window
from edge_qc.plant.dashboard.station import Now, Station

Document = dict[str, Any]
Mask = NDArray[np.bool_]

STEPS = 90
CHARTS = 16
"""Drift charts that a page shows at once; those that are out of control come first."""

_NOW = 6
_HELD_S = 120


class Outcomes(NamedTuple):
    """How many views, or parts, and what became of them. unjudged: not judged, or incomplete."""

    passed: int
    rejected: int
    review: int
    unjudged: int

    @property
    def all(self) -> int:
        return sum(self)


def outcomes(window: Window, mask: Mask) -> Outcomes:
    """Of the selected sources."""
    return Outcomes(*window.outcomes[mask].sum((0, 1)).tolist())


def passing(window: Window, mask: Mask) -> list[float | None]:
    """The share that passed in each interval; None if it is empty."""
    counts = window.outcomes[mask].sum(0)
    return _series(_ratio(counts[:, 0], counts.sum(1)), 4)


def dies(views: Window, mask: Mask) -> list[Document]:
    """What became of each die's views."""
    found: dict[str, Counts] = {}
    for at, became in zip(np.flatnonzero(mask), views.outcomes[mask].sum(1), strict=True):
        die = views.sources[at][1]
        found[die] = found.get(die, 0) + became
    counted = ((die, Outcomes(*became.tolist())) for die, became in sorted(found.items()))
    return [
        {"die": die, "views": counts.all, "passed": counts.passed}
        for die, counts in counted
        if counts.all
    ]


def pareto(views: Window, mask: Mask) -> list[Document]:
    """Every label but GOOD, most frequent first, with its counts by die."""
    by_source = views.labels.sum(1)
    found = []
    for index, label in enumerate(views.label_names):
        count = int(by_source[mask, index].sum())
        if label == GOOD or not count:
            continue
        by_die: dict[str, int] = {}
        for (_, die), kept, number in zip(
            views.sources, mask, by_source[:, index].tolist(), strict=True
        ):
            if kept and number:
                by_die[die] = by_die.get(die, 0) + number
        found.append({"label": label, "count": count, "dies": dict(sorted(by_die.items()))})
    return sorted(found, key=lambda entry: (-entry["count"], entry["label"]))


def drift(views: Window, mask: Mask) -> list[Document]:
    """A chart for each die of each station, those out of control first; the first ``CHARTS`` with
    their series."""
    charts = []
    for source in np.flatnonzero(mask & views.drift_count.any(1)):
        station, die = views.sources[source]
        means = _ratio(views.drift_sum[source], views.drift_count[source])
        charts.append((DriftChart(station, die, means), views.drift_worst[source]))
    charts.sort(key=lambda one: one[0].order)
    return [
        one.document(worst) if index < CHARTS else one.summary()
        for index, (one, worst) in enumerate(charts)
    ]


class DriftChart:
    """The mean of score over threshold in each interval, with its limit; 1 is the threshold. The
    last interval still fills."""

    def __init__(self, station: str, die: str, means: Figures) -> None:
        self.station, self.die, self.means = station, die, means
        # An interval that still fills is too uneven to judge.
        self._told = chart(np.where(np.arange(len(means)) < len(means) - 1, means, np.nan))
        self.now_out = sum(self._told.out[-_NOW:]) >= 2

    @property
    def order(self) -> tuple[bool, str, str]:
        return not self.now_out, self.station, self.die

    def summary(self) -> Document:
        """Its name and whether it is out of control."""
        return {"station": self.station, "die": self.die, "now_out": self.now_out}

    def document(self, worst: Figures | None = None) -> Document:
        """What draws it. worst: the largest of each interval; None if unknown."""
        return {
            **self.summary(),
            "next": DRIFTING if self.now_out else "",
            "mean": _series(self.means, 4),
            "worst": None if worst is None else _series(worst, 3),
            "centre": rounded(self._told.centre, 4),
            "upper": rounded(self._told.upper, 4),
            "out": [index for index, out in enumerate(self._told.out) if out],
        }


def trends(stations: Iterable[Station], window_s: int, now: Now) -> Document:
    """Over all stations: the worst p99 latency, queue and outbox of each interval."""
    end_s = now.utc.timestamp()
    step_s = window_s / STEPS
    end_s = (end_s // step_s + 1) * step_s
    times = [end_s - (STEPS - i) * step_s for i in range(STEPS)]
    worst: list[list[float | None]] = [[None] * STEPS for _ in range(3)]
    for station in stations:
        for time_s, *figures in reversed(station.trend):
            at = int((time_s - times[0]) // step_s)
            if at < 0:
                break
            if at < STEPS:
                for series, figure in zip(worst, figures, strict=True):
                    series[at] = max(series[at] or 0, figure)
    held = max(1, round(_HELD_S / step_s))
    # A figure stands until the next heartbeat.
    latency, queue, waiting = (_held(series, held) for series in worst)
    return {
        "times": times,
        "p99": [None if value is None else round(value, 1) for value in latency],
        "queue": queue,
        "waiting": waiting,
    }


def _held(series: list[float | None], steps: int) -> list[float | None]:
    """The series with each figure carried forward over missing intervals, up to a limit."""
    held: list[float | None] = []
    last, since = None, 0
    for figure in series:
        last, since = (last, since + 1) if figure is None else (figure, 0)
        held.append(last if since <= steps else None)
    return held


def _ratio(some: Counts | Figures, all_: Counts) -> Figures:
    ratio: Figures = np.divide(
        some, all_, out=np.full(len(all_), np.nan), where=np.asarray(all_) > 0
    )
    return ratio


def _series(values: Figures, digits: int) -> list[float | None]:
    return [round(float(value), digits) if np.isfinite(value) else None for value in values]


def rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(min(max(value, -1e15), 1e15), digits)
