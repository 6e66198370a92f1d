"""Hours, shifts and days of a plant's own clock, as the periods of a count.

Python alone knows when a period begins, as it knows time zones. PostgreSQL gets these moments
and adds up by period, so that it need not send a row for each hour of each station.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from edge_qc.plant.recorder.tables import BUCKET_S, DAY_S, HOUR_S, UtcTime, tally_day
from edge_qc.plant.recorder.tallies import bucket_of
from edge_qc.plant.recorder.where import Shifts, Span

IN_TIME = ("day", "hour", "shift")
_MOST_BUCKETS = 20_000
"""How many to look at, two years of hours: a station's clock may once have been decades off."""


def told(name: str, moment: datetime, shifts: Shifts) -> str:
    """The period in which a moment lies. name: of ``IN_TIME``."""
    if name == "shift":
        return shifts.of(moment)
    local = moment.astimezone(shifts.zone)
    if name == "day":
        return local.date().isoformat()
    # With its offset: where the clocks go back, one hour comes twice.
    return local.replace(minute=0, second=0, microsecond=0).isoformat(sep=" ", timespec="minutes")


def grain(timed: Sequence[str], shifts: Shifts) -> int:
    """The widest grain, in seconds, of which no bucket spans two periods."""
    year = datetime.now(shifts.zone).year
    offsets = [
        (datetime(year, month, 1, tzinfo=shifts.zone).utcoffset() or timedelta()).total_seconds()
        for month in range(1, 13)
    ]
    if not set(timed) - {"day"} and (not timed or not any(offsets)):
        return DAY_S
    full_hours = "shift" not in timed or not any(start.minute for start in shifts.starts)
    return HOUR_S if full_hours and not any(offset % HOUR_S for offset in offsets) else BUCKET_S


def begins(
    db: Connection, span: Span, timed: Sequence[str], shifts: Shifts, grain_s: int
) -> list[datetime]:
    """When the periods of a span begin, in order; empty where the database had better add up by
    buckets, since it cannot do otherwise or each bucket is a period of its own."""
    if db.dialect.name != "postgresql" or "hour" in timed or grain_s == DAY_S or not timed:
        return []
    since, until = span.since, span.until
    if since is None or until is None:
        day = tally_day.c.bucket
        first, last = db.execute(select(func.min(day), func.max(day))).one()
        if first is None:
            return []
        since, until = since or first, until or last + timedelta(seconds=DAY_S)
    at, step, found = bucket_of(since, grain_s), timedelta(seconds=grain_s), []
    if (until - at) / step > _MOST_BUCKETS:
        return []
    before: list[str] = []
    while at < until:
        here = [told(name, at, shifts) for name in timed]
        if here != before:
            found.append(at)
        before, at = here, at + step
    return found


def number(time: ColumnElement[Any], begun: list[datetime]) -> ColumnElement[Any]:
    """The place of a time's period among ``begins``, from 1."""
    return func.width_bucket(time, literal(begun, ARRAY(UtcTime)))
