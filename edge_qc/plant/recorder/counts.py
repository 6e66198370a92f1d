"""Counts of verdicts by outcome, from the tallies, never from the verdicts.

A query uses the coarsest tally whose buckets fit: UTC days, full hours, or quarters of an hour. If
it begins or ends within a bucket, the rest comes from the next finer tally.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Select,
    Subquery,
    Table,
    case,
    func,
    select,
    union_all,
)

from edge_qc.parts import NOT_JUDGED
from edge_qc.plant.recorder.tables import BUCKET_S, DAY_S, HOUR_S, TALLIES, bundle, station
from edge_qc.plant.recorder.tallies import bucket_of
from edge_qc.plant.recorder.where import Answer, Row, Shifts, Where, of_bundle, of_station

_IN_TIME = ("day", "hour", "shift")
DIMENSIONS = ("shift", "day", "hour", "station", "die", "class", "bundle", "reason")


def yields(engine: Engine, where: Where, by: Sequence[str], shifts: Shifts) -> Answer:
    """How many verdicts, and what became of them, by some of ``DIMENSIONS``.

    yield: the share of judged views that passed; None if none was judged. Times are resolved to
    quarters of an hour.
    """
    timed = [name for name in by if name in _IN_TIME]
    others = [name for name in by if name not in _IN_TIME]
    counts = _counts(where, _grain_s(timed, shifts))
    groups = [*([counts.c.bucket] if timed else []), *(counts.c[_COLUMN[name]] for name in others)]
    sums = [
        func.sum(counts.c.n),
        *(
            func.sum(case((counts.c.disposition == kind, counts.c.n), else_=0))
            for kind in ("PASS", "REJECT", "REVIEW")
        ),
        func.sum(case((counts.c.label == NOT_JUDGED, counts.c.n), else_=0)),
        func.sum(counts.c.expected_cost),
    ]
    query = _only(select(*groups, *sums), counts, where).group_by(*groups)
    found: dict[Row, list[float]] = {}
    first = len(groups)
    with engine.connect() as db:
        names = {name: _names(db, name) for name in others if name in ("station", "bundle")}
        # Time zones are slow, so compute each time once, not once per row.
        periods: dict[datetime, list[str]] = {}
        for row in db.execute(query):
            told: dict[str, Any] = {}
            if timed:
                if row[0] not in periods:
                    periods[row[0]] = [_period(name, row[0], shifts) for name in timed]
                told.update(zip(timed, periods[row[0]], strict=True))
            told.update(zip(others, row[first - len(others) : first], strict=True))
            for name, known in names.items():
                told[name] = known.get(told[name], "")
            key = tuple([told[name] for name in by])
            sums_of_key = found.get(key)
            if sums_of_key is None:
                found[key] = [value or 0 for value in row[first:]]
            else:
                found[key] = [
                    total + (value or 0)
                    for total, value in zip(sums_of_key, row[first:], strict=True)
                ]
    rows = []
    for group in sorted(found, key=lambda one: tuple(str(value) for value in one)):
        n, passed, rejected, review, unjudged, cost = found[group]
        share = passed / (n - unjudged) if n > unjudged else None
        rows.append(
            (*group, *map(int, (n, passed, rejected, review, unjudged)), share, float(cost))
        )
    figures = ("verdicts", "passed", "rejected", "review", "not_judged", "yield", "expected_cost")
    return Answer((*by, *figures), rows)


def said(engine: Engine, where: Where) -> dict[str, int]:
    """How many verdicts of each label, labelled by a person or not."""
    counts = _counts(where, DAY_S)
    query = _only(select(counts.c.label, func.sum(counts.c.n)), counts, where)
    query = query.group_by(counts.c.label)
    with engine.connect() as db:
        return {name: int(n) for name, n in db.execute(query)}


_COLUMN = {
    "station": "station_id",
    "die": "die",
    "class": "label",
    "bundle": "bundle_no",
    "reason": "reason",
}


def _names(db: Connection, dimension: str) -> dict[int, str]:
    """Of stations, or of bundles, by their numbers."""
    columns = station.c.station_id, station.c.name
    if dimension == "bundle":
        columns = bundle.c.bundle_no, bundle.c.bundle_id
    return {row[0]: row[1] for row in db.execute(select(*columns))}


def _period(name: str, bucket: datetime, shifts: Shifts) -> str:
    if name == "shift":
        return shifts.of(bucket)
    local = bucket.astimezone(shifts.zone)
    if name == "day":
        return local.date().isoformat()
    # With its offset: where the clocks go back, one hour comes twice.
    return local.replace(minute=0, second=0, microsecond=0).isoformat(sep=" ", timespec="minutes")


def _grain_s(timed: Sequence[str], shifts: Shifts) -> int:
    """The widest grain of which no bucket spans two periods."""
    year = datetime.now(shifts.zone).year
    offsets = [
        (datetime(year, month, 1, tzinfo=shifts.zone).utcoffset() or timedelta()).total_seconds()
        for month in range(1, 13)
    ]
    if not set(timed) - {"day"} and (not timed or not any(offsets)):
        return DAY_S
    full_hours = "shift" not in timed or not any(start.minute for start in shifts.starts)
    return HOUR_S if full_hours and not any(offset % HOUR_S for offset in offsets) else BUCKET_S


def _counts(where: Where, grain_s: int) -> Subquery:
    """The tallies of a period as one table, at this grain where possible."""
    since = None if where.since is None else bucket_of(where.since)
    tallies = [(table, grain) for table, grain in TALLIES if grain <= grain_s]
    parts = _parts(tallies, since, where.until)
    return union_all(*parts).subquery("counts") if len(parts) > 1 else parts[0].subquery("counts")


def _parts(
    tallies: Sequence[tuple[Table, int]], since: datetime | None, until: datetime | None
) -> list[Select[Any]]:
    (table, grain_s), *finer = tallies
    if not finer:
        return [_between(table, since, until)]
    first = None if since is None else _up(since, grain_s)
    last = None if until is None else bucket_of(until, grain_s)
    if first is not None and last is not None and first >= last:
        return _parts(finer, since, until)
    parts = [_between(table, first, last)]
    if since != first:
        parts += _parts(finer, since, first)
    if until is not None and until != last:
        parts += _parts(finer, last, until)
    return parts


def _between(table: Table, since: datetime | None, until: datetime | None) -> Select[Any]:
    query = select(table)
    if since is not None:
        query = query.where(table.c.bucket >= since)
    return query if until is None else query.where(table.c.bucket < until)


def _up(moment: datetime, grain_s: int) -> datetime:
    begun = bucket_of(moment, grain_s)
    return begun if begun == moment else begun + timedelta(seconds=grain_s)


def _only(query: Select[Any], counts: Subquery, where: Where) -> Select[Any]:
    stations, wanted = of_station(where), of_bundle(where)
    if stations:
        query = query.where(counts.c.station_id.in_(select(station.c.station_id).where(*stations)))
    if wanted is not None:
        query = query.where(counts.c.bundle_no.in_(wanted))
    return query if where.die is None else query.where(counts.c.die == where.die)
