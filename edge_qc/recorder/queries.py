"""What a quality engineer asks of the records. Everything here reads.

Counts come from ``tally``, which has one row for each quarter of an hour, station, die, bundle and
label, and where nothing finer is asked for whole days from ``tally_day``. What asks for single
verdicts goes by an index.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Engine, Select, Table, case, func, select, union_all

from edge_qc.errors import UsageError
from edge_qc.parts import NOT_JUDGED
from edge_qc.recorder.tables import (
    BUCKET_S,
    DAY_S,
    bundle,
    event,
    gap,
    label,
    part,
    station,
    stream,
    tally,
    tally_day,
    verdict,
)
from edge_qc.recorder.tallies import bucket_of

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """A table: names of columns, and rows."""

    columns: tuple[str, ...]
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Where:
    """Which verdicts; None for all. since is inside, until outside. station: its name, or
    ``site/name``. bundle: the first letters of an id."""

    since: datetime | None = None
    until: datetime | None = None
    station: str | None = None
    die: str | None = None
    bundle: str | None = None


@dataclass(frozen=True, slots=True)
class Shifts:
    """When shifts begin, in a zone."""

    starts: tuple[time, ...]
    zone: tzinfo

    def __post_init__(self) -> None:
        odd = [start for start in self.starts if (start.hour * 3600 + start.minute * 60) % BUCKET_S]
        if odd or not self.starts:
            raise UsageError("shifts begin at a full, a half or a quarter hour, such as 06:00")

    def of(self, moment: datetime) -> str:
        """The shift's own first day and hour."""
        local = moment.astimezone(self.zone)
        day, begun = local.date(), [s for s in sorted(self.starts) if s <= local.time()]
        if not begun:
            day, begun = day - timedelta(days=1), sorted(self.starts)
        return f"{day.isoformat()} {begun[-1]:%H:%M}"


_UTC: tuple[tzinfo, ...] = (timezone.utc, ZoneInfo("UTC"))
_IN_TIME = ("day", "hour", "shift")
DIMENSIONS = ("shift", "day", "hour", "station", "die", "class", "bundle", "reason")


def yields(engine: Engine, where: Where, by: Sequence[str], shifts: Shifts) -> Answer:
    """How many verdicts, and what became of them, by some of ``DIMENSIONS``.

    yield: the share that passed of those that were judged; None where none was. Times are told to
    the quarter of an hour in which a verdict falls.
    """
    timed = [name for name in by if name in _IN_TIME]
    others = [name for name in by if name not in _IN_TIME]
    days = not set(timed) - {"day"} and (not timed or shifts.zone in _UTC)
    counts = _counts(where, days)
    groups = [*([counts.c.bucket] if timed else []), *(_dimension(name, counts) for name in others)]
    sums = [
        func.sum(counts.c.n),
        *(
            func.sum(case((counts.c.disposition == kind, counts.c.n), else_=0))
            for kind in ("PASS", "REJECT", "REVIEW")
        ),
        func.sum(case((counts.c.label == NOT_JUDGED, counts.c.n), else_=0)),
        func.sum(counts.c.expected_cost),
    ]
    query = _joined(select(*groups, *sums), counts, where, others).group_by(*groups)
    found: dict[Row, list[float]] = {}
    # By a zone's calendar, which is slow: once for each time, not for each of its rows.
    periods: dict[datetime, list[str]] = {}
    with engine.connect() as db:
        for row in db.execute(query):
            key = dict(zip(others, row[len(groups) - len(others) :], strict=False))
            if timed:
                if row[0] not in periods:
                    periods[row[0]] = [_period(name, row[0], shifts) for name in timed]
                key.update(zip(timed, periods[row[0]], strict=True))
            total = found.setdefault(tuple(key[name] for name in by), [0.0] * len(sums))
            for at, value in enumerate(row[len(groups) :]):
                total[at] += float(value or 0)
    rows = []
    for group in sorted(found, key=lambda one: tuple(str(value) for value in one)):
        n, passed, rejected, review, unjudged, cost = found[group]
        share = passed / (n - unjudged) if n > unjudged else None
        rows.append((*group, *map(int, (n, passed, rejected, review, unjudged)), share, cost))
    told = ("verdicts", "passed", "rejected", "review", "not_judged", "yield", "expected_cost")
    return Answer((*by, *told), rows)


VERDICT_COLUMNS = (
    "verdict_id", "time", "site", "station", "camera", "die", "part_id", "label", "disposition",
    "reason", "drift_score", "drift_p", "expected_cost", "latency_ms", "bundle", "bundle_version",
    "epoch", "seq", "historical", "truth", "labelled_by",
)  # fmt: skip


def verdicts(
    engine: Engine, where: Where, *, not_passed: bool = False, limit: int | None = None
) -> Iterator[Row]:
    """Single verdicts with ``VERDICT_COLUMNS``, oldest first, or with a limit the newest first."""
    truth = _latest_labels()
    query = (
        select(
            verdict.c.verdict_id, verdict.c.time, station.c.site, station.c.name, verdict.c.camera,
            verdict.c.die, verdict.c.part_id, verdict.c.label, verdict.c.disposition,
            verdict.c.reason, verdict.c.drift_score, verdict.c.drift_p, verdict.c.expected_cost,
            verdict.c.latency_ms, bundle.c.bundle_id, bundle.c.version, stream.c.epoch,
            verdict.c.seq, verdict.c.historical, truth.c.truth, truth.c.labelled_by,
        )
        .join(station, station.c.station_id == verdict.c.station_id)
        .join(stream, stream.c.stream_id == verdict.c.stream_id)
        .outerjoin(bundle, bundle.c.bundle_no == verdict.c.bundle_no)
        .outerjoin(truth, truth.c.verdict_id == verdict.c.verdict_id)
        .where(*_of_verdicts(where))
    )  # fmt: skip
    if not_passed:
        query = query.where(verdict.c.disposition != "PASS")
    query = query.order_by(verdict.c.time if limit is None else verdict.c.time.desc())
    with engine.connect().execution_options(yield_per=5000) as db:
        for row in db.execute(query if limit is None else query.limit(limit)):
            yield tuple(row)


def escapes(engine: Engine, where: Where) -> Answer:
    """Verdicts that passed and that a person has labelled as something else than GOOD."""
    truth = _latest_labels()
    query = (
        select(
            verdict.c.time, station.c.name, verdict.c.die, verdict.c.part_id, truth.c.truth,
            verdict.c.drift_p, verdict.c.expected_cost, verdict.c.verdict_id, truth.c.labelled_by,
            truth.c.time, truth.c.note,
        )
        .join(truth, truth.c.verdict_id == verdict.c.verdict_id)
        .join(station, station.c.station_id == verdict.c.station_id)
        .where(verdict.c.disposition == "PASS", truth.c.truth != "GOOD", *_of_verdicts(where))
        .order_by(verdict.c.time)
    )  # fmt: skip
    columns = ("time", "station", "die", "part_id", "truth", "drift_p", "expected_cost",
               "verdict_id", "labelled_by", "labelled", "note")  # fmt: skip
    with engine.connect() as db:
        return Answer(columns, [tuple(row) for row in db.execute(query)])


def labelled(engine: Engine, where: Where) -> dict[tuple[str, str], int]:
    """How many labelled verdicts of each (true label, said label)."""
    truth = _latest_labels()
    query = (
        select(truth.c.truth, verdict.c.label, func.count())
        .join(truth, truth.c.verdict_id == verdict.c.verdict_id)
        .where(*_of_verdicts(where))
        .group_by(truth.c.truth, verdict.c.label)
    )
    with engine.connect() as db:
        return {(true, said): int(n) for true, said, n in db.execute(query)}


def said(engine: Engine, where: Where) -> dict[str, int]:
    """How many verdicts of each label, labelled by a person or not."""
    counts = _counts(where, days=True)
    query = _joined(select(counts.c.label, func.sum(counts.c.n)), counts, where, ())
    query = query.group_by(counts.c.label)
    with engine.connect() as db:
        return {name: int(n) for name, n in db.execute(query)}


def kept_costs(engine: Engine) -> str | None:
    """The cost matrix of the newest bundle that ``edge-qc record --bundle`` was given."""
    with engine.connect() as db:
        return db.execute(
            select(bundle.c.costs)
            .where(bundle.c.costs.is_not(None))
            .order_by(bundle.c.version.desc())
            .limit(1)
        ).scalar_one_or_none()


def gaps(engine: Engine) -> Answer:
    """Numbers that are missing, by stream. final: the station has said that they will not come."""
    rows: list[Row] = []
    with engine.connect() as db:
        streams = {
            row.stream_id: (row.site, row.name, row.epoch, row.kind, row.upto)
            for row in db.execute(
                select(
                    stream.c.stream_id,
                    station.c.site,
                    station.c.name,
                    stream.c.epoch,
                    stream.c.kind,
                    stream.c.upto,
                ).join(station)
            )
        }
        for given_up in db.execute(select(gap.c.stream_id, gap.c.first, gap.c.last)):
            *whose, kind, _ = streams[given_up.stream_id]
            table = _TABLES[kind]
            come = db.execute(
                select(func.count())
                .select_from(table)
                .where(
                    table.c.stream_id == given_up.stream_id,
                    table.c.seq.between(given_up.first, given_up.last),
                )
            ).scalar_one()
            missing = given_up.last - given_up.first + 1 - come
            if missing:
                rows.append((*whose, kind, given_up.first, given_up.last, missing, True))
        for table in _TABLES.values():
            before = func.lag(table.c.seq).over(
                partition_by=table.c.stream_id, order_by=table.c.seq
            )
            above = (
                select(table.c.stream_id, table.c.seq, func.coalesce(before, stream.c.upto))
                .join(stream, stream.c.stream_id == table.c.stream_id)
                .where(table.c.seq > stream.c.upto)
                .subquery()
            )
            stream_id, seq, low = above.c
            for number, high, below in db.execute(
                select(stream_id, seq, low).where(seq > low + 1).order_by(stream_id, seq)
            ):
                *whose, kind, _ = streams[number]
                rows.append((*whose, kind, below + 1, high - 1, high - below - 1, False))
    columns = ("site", "station", "epoch", "kind", "first", "last", "missing", "final")
    return Answer(columns, sorted(rows))


_TABLES = {"verdict": verdict, "part": part, "event": event}


def _dimension(name: str, counts: Any) -> ColumnElement[Any]:
    if name == "station":
        return station.c.name
    if name == "bundle":
        return func.coalesce(bundle.c.bundle_id, "")
    column: ColumnElement[Any] = counts.c[{"class": "label"}.get(name, name)]
    return column


def _period(name: str, bucket: datetime, shifts: Shifts) -> str:
    if name == "shift":
        return shifts.of(bucket)
    local = bucket.astimezone(shifts.zone)
    return local.date().isoformat() if name == "day" else f"{local:%Y-%m-%d %H:00}"


def _counts(where: Where, days: bool) -> Any:
    """The tallies of a time, as one table; days: whole days may come from ``tally_day``."""
    since = None if where.since is None else bucket_of(where.since)
    until = where.until
    if not days:
        return _between(tally, since, until).subquery("counts")
    first = None if since is None else _day_up(since)
    last = None if until is None else bucket_of(until, DAY_S)
    if first is not None and last is not None and first >= last:
        return _between(tally, since, until).subquery("counts")
    parts = [_between(tally_day, first, last)]
    if since != first:
        parts.append(_between(tally, since, first))
    if until is not None and until != last:
        parts.append(_between(tally, last, until))
    return union_all(*parts).subquery("counts") if len(parts) > 1 else parts[0].subquery("counts")


def _between(table: Table, since: datetime | None, until: datetime | None) -> Select[Any]:
    query = select(table)
    if since is not None:
        query = query.where(table.c.bucket >= since)
    return query if until is None else query.where(table.c.bucket < until)


def _day_up(moment: datetime) -> datetime:
    day = bucket_of(moment, DAY_S)
    return day if day == moment else day + timedelta(seconds=DAY_S)


def _joined(query: Select[Any], counts: Any, where: Where, by: Sequence[str]) -> Select[Any]:
    query = query.select_from(counts)
    if "station" in by:
        query = query.join(station, station.c.station_id == counts.c.station_id)
    if "bundle" in by:
        query = query.outerjoin(bundle, bundle.c.bundle_no == counts.c.bundle_no)
    stations, wanted = _of_station(where), _of_bundle(where)
    if stations:
        query = query.where(counts.c.station_id.in_(select(station.c.station_id).where(*stations)))
    if wanted is not None:
        query = query.where(counts.c.bundle_no.in_(wanted))
    return query if where.die is None else query.where(counts.c.die == where.die)


def _of_verdicts(where: Where) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    stations = _of_station(where)
    if stations:
        conditions.append(verdict.c.station_id.in_(select(station.c.station_id).where(*stations)))
    if where.since is not None:
        conditions.append(verdict.c.time >= where.since)
    if where.until is not None:
        conditions.append(verdict.c.time < where.until)
    if where.die is not None:
        conditions.append(verdict.c.die == where.die)
    wanted = _of_bundle(where)
    if wanted is not None:
        conditions.append(verdict.c.bundle_no.in_(wanted))
    return conditions


def _of_station(where: Where) -> list[ColumnElement[bool]]:
    if where.station is None:
        return []
    site, _, name = where.station.rpartition("/")
    return [station.c.name == name, *([station.c.site == site] if site else [])]


def _of_bundle(where: Where) -> Select[Any] | None:
    if where.bundle is None:
        return None
    begins = bundle.c.bundle_id.startswith(where.bundle, autoescape=True)
    return select(bundle.c.bundle_no).where(begins)


def _latest_labels() -> Any:
    """Of each labelled verdict its last label: labels are only ever added."""
    last = select(func.max(label.c.label_no)).group_by(label.c.verdict_id)
    return select(label).where(label.c.label_no.in_(last)).subquery("truth")
