"""Sums verdicts by time, station, die, bundle and label. Pure; ``store`` writes them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from edge_qc.plant.recorder.tables import BUCKET_S

SUMS = (
    "n",
    "drift_n",
    "drift_sum",
    "drift_squares",
    "expected_cost",
    "latency_n",
    "latency_sum_ms",
)


def bucket_of(time: datetime, grain_s: int = BUCKET_S) -> datetime:
    """The start of the tally's bucket that a time falls in."""
    since = math.floor(time.timestamp() / grain_s) * grain_s
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=since)


def sums_of(rows: Iterable[dict[str, Any]], grain_s: int) -> Iterable[dict[str, Any]]:
    """What rows of ``verdict`` add to a tally of this grain, one row per key."""
    tallies: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = {
            "bucket": bucket_of(row["time"], grain_s),
            "station_id": row["station_id"],
            "die": row["die"] or "",
            "bundle_no": row["bundle_no"] or 0,
            "label": row["label"],
            "disposition": row["disposition"],
            "reason": row["reason"],
        }
        sums = tallies.setdefault(tuple(key.values()), {**key, **dict.fromkeys(SUMS, 0)})
        sums["n"] += 1
        sums["expected_cost"] += row["expected_cost"] or 0.0
        if row["drift_score"] is not None:
            sums["drift_n"] += 1
            sums["drift_sum"] += row["drift_score"]
            sums["drift_squares"] += row["drift_score"] ** 2
        if row["latency_ms"] is not None:
            sums["latency_n"] += 1
            sums["latency_sum_ms"] += row["latency_ms"]
    return tallies.values()


def coarser(rows: Iterable[Mapping[Any, Any]], grain_s: int) -> Iterable[dict[str, Any]]:
    """A tally's rows added up to another of this coarser grain."""
    tallies: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = {name: row[name] for name in row if name not in SUMS}
        key["bucket"] = bucket_of(row["bucket"], grain_s)
        sums = tallies.setdefault(tuple(key.values()), {**key, **dict.fromkeys(SUMS, 0)})
        for name in SUMS:
            sums[name] += row[name]
    return tallies.values()
