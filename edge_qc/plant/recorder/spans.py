"""Which rows a question of counts adds up: tallies in the middle, verdicts at both edges.

A question uses the coarsest tally whose buckets fit: UTC days, full hours, or quarters of an hour.
If it begins or ends within a bucket, the rest comes from the next finer tally, and within a quarter
of an hour from the verdicts themselves. Where those were deleted (``--keep-days``), the whole
quarter is counted, and the answer says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Select,
    Subquery,
    Table,
    cast,
    extract,
    func,
    literal,
    select,
    text,
    type_coerce,
    union_all,
)

from edge_qc.plant.recorder.tables import BUCKET_S, TALLIES, UtcTime, part, tally, verdict
from edge_qc.plant.recorder.tallies import bucket_of
from edge_qc.plant.recorder.where import Span, Where, within

_QUARTER = timedelta(seconds=BUCKET_S)
_KEYS = ("bucket", "station_id", "die", "bundle_no", "label", "disposition", "reason")
_SUMS = ("n", "expected_cost")


def counts_of(db: Connection, where: Where, grain_s: int) -> tuple[Subquery, Span]:
    """The counts of a span as one table with the columns of a tally, at this grain where possible,
    and the span that they cover: the one that was asked for, or wider by up to a quarter of an hour
    at an edge whose verdicts were deleted. Of ``where`` only times, part and lot are heeded."""
    if where.part is not None or where.lot is not None:
        of_part = [
            column == value
            for column, value in ((verdict.c.part_id, where.part), (verdict.c.lot, where.lot))
            if value is not None
        ]
        return _of_verdicts(db, where.span).where(*of_part).subquery("counts"), where.span
    counted = _countable(db, where.span)
    tallies = [(table, grain) for table, grain in TALLIES if grain <= grain_s]
    parts = _parts(db, tallies, counted)
    one = union_all(*parts) if len(parts) > 1 else parts[0]
    return one.subquery("counts"), counted


def counts_of_parts(db: Connection, where: Where) -> Subquery:
    """The verdicts on whole parts, with the columns of a tally; they have no die, bundle or
    reason."""
    of_part = [
        column == value
        for column, value in ((part.c.part_id, where.part), (part.c.lot, where.lot))
        if value is not None
    ]
    keys = [_bucket(db, part.c.time), part.c.station_id, part.c.label, part.c.disposition]
    query = select(
        keys[0].label("bucket"),
        *keys[1:],
        literal("").label("die"),
        literal(0).label("bundle_no"),
        literal("").label("reason"),
        cast(func.count(), Integer).label("n"),
        literal(0.0).label("expected_cost"),
    )
    query = query.where(*within(part.c.time, where.span), *of_part)
    return grouped(query, len(keys)).subquery()


def _countable(db: Connection, asked: Span) -> Span:
    since, until = asked.since, asked.until
    if since is not None and since != bucket_of(since) and not _is_whole(db, bucket_of(since)):
        since = bucket_of(since)
    if until is not None and until != bucket_of(until) and not _is_whole(db, bucket_of(until)):
        until = bucket_of(until) + _QUARTER
    return Span(since, until)


def _is_whole(db: Connection, bucket: datetime) -> bool:
    """Whether the verdicts of a quarter of an hour are all still there."""
    held = select(func.count()).where(verdict.c.time >= bucket, verdict.c.time < bucket + _QUARTER)
    counted = select(func.coalesce(func.sum(tally.c.n), 0)).where(tally.c.bucket == bucket)
    return bool(db.execute(held).scalar_one() == db.execute(counted).scalar_one())


def _parts(db: Connection, tallies: Sequence[tuple[Table, int]], span: Span) -> list[Select[Any]]:
    """Disjoint selections that cover the span."""
    if not tallies:
        return [_of_verdicts(db, span)]
    (table, grain_s), *finer = tallies
    first = None if span.since is None else _up(span.since, grain_s)
    last = None if span.until is None else bucket_of(span.until, grain_s)
    if first is not None and last is not None and first > last:
        return _parts(db, finer, span)
    parts = [] if first is not None and first == last else [_between(table, first, last)]
    if span.since != first:
        parts += _parts(db, finer, Span(span.since, first))
    if span.until != last:
        parts += _parts(db, finer, Span(last, span.until))
    return parts or [_of_verdicts(db, span)]


def _between(table: Table, since: datetime | None, until: datetime | None) -> Select[Any]:
    columns = (table.c[name] for name in (*_KEYS, *_SUMS))
    return select(*columns).where(*within(table.c.bucket, Span(since, until)))


def _of_verdicts(db: Connection, span: Span) -> Select[Any]:
    """Counted from the verdicts themselves."""
    keys = [
        _bucket(db, verdict.c.time).label("bucket"),
        verdict.c.station_id,
        func.coalesce(verdict.c.die, "").label("die"),
        func.coalesce(verdict.c.bundle_no, 0).label("bundle_no"),
        verdict.c.label,
        verdict.c.disposition,
        verdict.c.reason,
    ]
    sums = [
        cast(func.count(), Integer).label("n"),
        func.coalesce(func.sum(verdict.c.expected_cost), 0.0).label("expected_cost"),
    ]
    query = select(*keys, *sums).where(*within(verdict.c.time, span))
    return grouped(query, len(keys))


def grouped(query: Select[Any], columns: int) -> Select[Any]:
    """Group by the first columns: by their places, since PostgreSQL does not see that two
    expressions with parameters are one."""
    return query.group_by(*(text(str(place)) for place in range(1, columns + 1)))


def _bucket(db: Connection, time: ColumnElement[Any]) -> ColumnElement[Any]:
    """The beginning of the quarter of an hour in which a time lies."""
    if db.dialect.name == "postgresql":
        since = func.floor(extract("epoch", time) / BUCKET_S) * BUCKET_S
        return type_coerce(func.to_timestamp(since), UtcTime)
    since = cast(func.strftime("%s", time), Integer) / BUCKET_S * BUCKET_S
    return type_coerce(func.datetime(since, "unixepoch"), UtcTime)


def _up(moment: datetime, grain_s: int) -> datetime:
    begun = bucket_of(moment, grain_s)
    return begun if begun == moment else begun + timedelta(seconds=grain_s)
