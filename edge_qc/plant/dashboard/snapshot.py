"""What a page shows at one moment, for one filter: plain values, as JSON.

Pure: figures over the whole plant, beside the single ``rows``. The page draws them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from edge_qc.parts import GOOD, NOT_JUDGED
from edge_qc.plant.dashboard.control import chart
from edge_qc.plant.dashboard.filters import Filter
from edge_qc.plant.dashboard.history import Counts, Figures, Window
from edge_qc.plant.dashboard.plant import NAME, Now, PlantState, Station
from edge_qc.plant.dashboard.rows import WORDS, Document, events, gaps, stamp, verdicts

_STEPS = 90
_NOW = 6
_CAMERAS = 32
_HELD_S = 120


def snapshot(plant: PlantState, chosen: Filter, now: Now) -> Document:
    """The sections of the page; each can be sent alone."""
    for history in (plant.views, plant.parts):
        history.advance(now.utc.timestamp())
    views = plant.views.window(chosen.window_s, _STEPS)
    parts = plant.parts.window(chosen.window_s, _STEPS)
    mask = views.of(chosen.station, chosen.die)
    stations = [
        station
        for station in sorted(plant.stations.values(), key=lambda station: station.name)
        if chosen.station in (None, station.name)
    ]
    return {
        "stations": [_station(station, views, now) for station in stations],
        "totals": _totals(plant, views, mask, parts, parts.of(chosen.station)),
        "dies": _dies(views, views.of(chosen.station)),
        "pareto": _pareto(views, mask),
        "drift": _drift(views, mask),
        "trends": _trends(stations, chosen.window_s, now),
        "verdicts": verdicts(plant, chosen),
        "events": events(plant, chosen),
        "gaps": gaps(stations),
        "choices": {
            "stations": sorted(plant.stations),
            "dies": sorted({die for _, die in views.sources}),
            "labels": sorted(views.label_names, key=lambda label: (label != GOOD, label)),
        },
    }


def _station(station: Station, views: Window, now: Now) -> Document:
    health = station.health
    mask = views.of(station.name)
    passed, rejected, review = _by_disposition(views, mask)
    judged = passed + rejected + review
    cameras = {} if health is None else health.cameras
    return {
        "name": station.name,
        "state": "UNKNOWN" if station.state is None else station.state.value,
        "why": (station.conflict(now) or station.why)[:WORDS],
        "since": stamp(station.since),
        "silent_s": _round(station.silent_s(now), 0),
        "age_s": _round(station.age_s(now), 0),
        "rate": round(station.rate_per_s(now), 1),
        "views": judged,
        "passed": passed,
        "missing": station.missing,
        "skew_s": _round(station.skew_s, 0),
        "bundle": station.bundle_version,
        "p50": None if health is None else _round(health.latency_ms.get("p50"), 1),
        "p99": None if health is None else _round(health.latency_ms.get("p99"), 1),
        "queue": None if health is None else health.queue,
        "waiting": None if health is None or health.outbox is None else health.outbox.waiting,
        "space": None if health is None or health.outbox is None else health.outbox.space,
        "hottest_c": _round(
            max(health.temperatures_c.values(), default=None) if health is not None else None, 0
        ),
        "cameras": [
            {"name": name[:NAME], "state": camera.state[:NAME]}
            for name, camera in sorted(cameras.items())[:_CAMERAS]
        ],
    }


def _totals(
    plant: PlantState, views: Window, mask: Any, parts: Window, parts_mask: Any
) -> Document:
    passed, rejected, review = _by_disposition(views, mask)
    part_passed, part_rejected, part_review = _by_disposition(parts, parts_mask)
    not_judged = 0
    if NOT_JUDGED in views.label_names:
        not_judged = int(views.labels[mask][:, :, views.label_names.index(NOT_JUDGED)].sum())
    return {
        "views": passed + rejected + review,
        "passed": passed,
        "rejected": rejected,
        "review": review - not_judged if review >= not_judged else review,
        "not_judged": not_judged,
        "parts": part_passed + part_rejected + part_review,
        "parts_passed": part_passed,
        "historical": int(views.historical[mask].sum()),
        "unreadable": plant.unreadable,
        "unknown": plant.unknown,
        # By interval, so that a fall is seen.
        "times": views.times.tolist(),
        "passing": _series(
            _ratio(
                views.dispositions[mask][:, :, 0].sum(0),
                views.dispositions[mask].sum((0, 2)),
            ),
            4,
        ),
        "late": views.historical[mask].sum(0).tolist(),
    }


def _dies(views: Window, mask: Any) -> list[Document]:
    found = []
    for die in sorted({die for (_, die), kept in zip(views.sources, mask, strict=True) if kept}):
        passed, rejected, review = _by_disposition(views, mask & views.of(die=die))
        count = passed + rejected + review
        if count:
            found.append({"die": die, "views": count, "passed": passed, "rejected": rejected})
    return found


def _pareto(views: Window, mask: Any) -> list[Document]:
    """Every label but GOOD, most frequent first, with its counts by die."""
    by_source = views.labels.sum(1)
    found = []
    for index, label in enumerate(views.label_names):
        count = int(by_source[mask, index].sum())
        if label == GOOD or not count:
            continue
        dies: dict[str, int] = {}
        for (_, die), kept, number in zip(
            views.sources, mask, by_source[:, index].tolist(), strict=True
        ):
            if kept and number:
                dies[die] = dies.get(die, 0) + number
        found.append({"label": label, "count": count, "dies": dict(sorted(dies.items()))})
    return sorted(found, key=lambda entry: (-entry["count"], entry["label"]))


def _drift(views: Window, mask: Any) -> Document:
    """A chart for each die: the mean of score over threshold in each interval, with its limit, and
    the worst; 1 is the threshold."""
    charts = []
    for die in sorted({die for _, die in views.sources}):
        rows = mask & views.of(die=die)
        count = views.drift_count[rows].sum(0)
        if not count.any():
            continue
        means = _ratio(views.drift_sum[rows].sum(0), count)
        # An interval that still fills is too uneven to judge.
        told = chart(np.where(np.arange(len(means)) < len(means) - 1, means, np.nan))
        worst = np.where(np.isnan(views.drift_worst[rows]), -np.inf, views.drift_worst[rows]).max(0)
        charts.append(
            {
                "die": die,
                "mean": _series(means, 4),
                "worst": _series(np.where(np.isfinite(worst), worst, np.nan), 3),
                "centre": _round(told.centre, 4),
                "upper": _round(told.upper, 4),
                "out": [index for index, out in enumerate(told.out) if out],
                "now_out": sum(told.out[-_NOW:]) >= 2,
            }
        )
    return {"times": views.times.tolist(), "charts": charts}


def _trends(stations: Iterable[Station], window_s: int, now: Now) -> Document:
    """Over all stations: the worst p99 latency, queue and outbox of each interval."""
    end_s = now.utc.timestamp()
    step_s = window_s / _STEPS
    end_s = (end_s // step_s + 1) * step_s
    times = [end_s - (_STEPS - i) * step_s for i in range(_STEPS)]
    worst: list[list[float | None]] = [[None] * _STEPS for _ in range(3)]
    for station in stations:
        for time_s, *figures in reversed(station.trend):
            at = int((time_s - times[0]) // step_s)
            if at < 0:
                break
            if at < _STEPS:
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


def _by_disposition(window: Window, mask: Any) -> tuple[int, int, int]:
    passed, rejected, review = window.dispositions[mask].sum((0, 1)).tolist()
    return passed, rejected, review


def _ratio(some: Counts | Figures, all_: Counts) -> Figures:
    ratio: Figures = np.divide(
        some, all_, out=np.full(len(all_), np.nan), where=np.asarray(all_) > 0
    )
    return ratio


def _series(values: Figures, digits: int) -> list[float | None]:
    return [round(float(value), digits) if np.isfinite(value) else None for value in values]


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(min(max(value, -1e15), 1e15), digits)
