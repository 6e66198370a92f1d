"""Counts of a shift, a day or a week out of the recorder's tallies and part verdicts.

``recorded`` makes the page's sections of them, ``handover`` the page of that name.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Integer,
    Table,
    case,
    cast,
    extract,
    func,
    select,
    text,
)

from edge_qc.parts import GOOD, NOT_JUDGED
from edge_qc.plant.dashboard.figures import Outcomes
from edge_qc.plant.dashboard.headline import Document
from edge_qc.plant.dashboard.plant import INCOMPLETE
from edge_qc.plant.dashboard.records.periods import Period
from edge_qc.plant.recorder.tables import BUCKET_S, HOUR_S, part, station, tally, tally_hour


def grain_of(period: Period) -> tuple[Table, int]:
    """The tally to count with, and the seconds of an interval: a quarter of an hour, an hour for a
    week."""
    if period.kind != "week":
        return tally, BUCKET_S
    # Where a zone's hours are not those of UTC, a day begins within an hour of the tally.
    offset = period.since.utcoffset() or timedelta()
    return (tally if offset.total_seconds() % HOUR_S else tally_hour), HOUR_S


def intervals(period: Period) -> list[float]:
    """The beginning of each interval, seconds since 1970."""
    _, grain_s = grain_of(period)
    return list(np.arange(period.since.timestamp(), period.until.timestamp(), grain_s))


def outcomes(
    db: Connection,
    period: Period,
    of: str,
    station_name: str | None = None,
    die: str | None = None,
) -> Outcomes:
    """What became of the parts, or the views, of a period."""
    if of == "parts":
        query = select(part.c.complete, part.c.disposition, func.count()).where(
            *within(part.c.time, period), *of_station(part, station_name)
        )
        query = query.group_by(part.c.complete, part.c.disposition)
        rows = [(not complete, *row) for complete, *row in db.execute(query)]
    else:
        table, _ = grain_of(period)
        query = select(table.c.label, table.c.disposition, func.sum(table.c.n)).where(
            *within(table.c.bucket, period), *of_station(table, station_name)
        )
        if die is not None:
            query = query.where(table.c.die == stored_die(die))
        query = query.group_by(table.c.label, table.c.disposition)
        rows = [(label == NOT_JUDGED, *row) for label, *row in db.execute(query)]
    counts = dict.fromkeys(("PASS", "REJECT", "REVIEW", INCOMPLETE), 0)
    for odd, disposition, n in rows:
        counts[INCOMPLETE if odd else disposition] += int(n)
    return Outcomes(*counts.values())


def pareto(
    db: Connection, period: Period, station_name: str | None = None, die: str | None = None
) -> list[Document]:
    """As ``figures.pareto``."""
    table, _ = grain_of(period)
    query = select(table.c.label, table.c.die, func.sum(table.c.n)).where(
        *within(table.c.bucket, period),
        *of_station(table, station_name),
        table.c.label != GOOD,
    )
    if die is not None:
        query = query.where(table.c.die == stored_die(die))
    found: dict[str, Document] = {}
    for label, of_die, n in db.execute(query.group_by(table.c.label, table.c.die)):
        entry = found.setdefault(label, {"label": label, "count": 0, "dies": {}})
        entry["count"] += int(n)
        entry["dies"][of_die or "-"] = int(n)
    return sorted(found.values(), key=lambda entry: (-entry["count"], entry["label"]))


def passing(
    db: Connection,
    period: Period,
    of: str,
    station_name: str | None = None,
    die: str | None = None,
) -> list[float | None]:
    """The share of parts, or of views, that passed in each interval; None if it is empty."""
    table, grain_s = grain_of(period)
    times = intervals(period)
    chosen = part if of == "parts" else table
    column = part.c.time if of == "parts" else table.c.bucket
    some = func.count() if of == "parts" else func.sum(table.c.n)
    since = int(period.since.timestamp())
    query = select(
        cast(func.floor((_seconds(db, column) - since) / grain_s), Integer),
        chosen.c.disposition,
        some,
    ).where(*within(column, period), *of_station(chosen, station_name))
    if die is not None and of != "parts":
        query = query.where(table.c.die == stored_die(die))
    passed, all_ = np.zeros(len(times)), np.zeros(len(times))
    # By their places: PostgreSQL does not see that two expressions with parameters are one.
    for at, disposition, n in db.execute(query.group_by(text("1"), text("2"))):
        if 0 <= at < len(times):
            all_[at] += int(n)
            passed[at] += int(n) if disposition == "PASS" else 0
    return [float(p / n) if n else None for p, n in zip(passed, all_, strict=True)]


def _seconds(db: Connection, time: ColumnElement[Any]) -> ColumnElement[Any]:
    """Seconds since 1970."""
    if db.dialect.name == "postgresql":
        return extract("epoch", time)
    return cast(func.strftime("%s", time), Float)


def dies(db: Connection, period: Period, station_name: str | None = None) -> list[Document]:
    """As ``figures.dies``."""
    table, _ = grain_of(period)
    rows = db.execute(
        select(
            table.c.die,
            func.sum(table.c.n),
            func.sum(case((table.c.disposition == "PASS", table.c.n), else_=0)),
        )
        .where(*within(table.c.bucket, period), *of_station(table, station_name))
        .group_by(table.c.die)
        .order_by(table.c.die)
    )
    return [{"die": die or "-", "views": int(n), "passed": int(good)} for die, n, good in rows]


def within(column: ColumnElement[Any], period: Period) -> list[ColumnElement[bool]]:
    """Times in a period."""
    return [column >= period.since, column < period.until]


def of_station(table: Any, name: str | None) -> list[ColumnElement[bool]]:
    """Rows of the station ``site/name``; any if None."""
    if name is None:
        return []
    site, _, last = name.partition("/")
    wanted = select(station.c.station_id).where(station.c.site == site, station.c.name == last)
    return [table.c.station_id.in_(wanted)]


def stored_die(shown: str) -> str:
    """A die as the tables hold it."""
    return "" if shown == "-" else shown
