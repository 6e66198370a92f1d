"""A query's filter, its shifts, and its result table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo
from typing import Any

from sqlalchemy import ColumnElement, Select, select

from edge_qc.errors import UsageError
from edge_qc.plant.recorder.tables import BUCKET_S, bundle, station, verdict

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """From ``since`` on, until before ``until``; None: without end."""

    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A table: names of columns, and rows. counted: the span that was counted, if it is not the one
    that was asked for."""

    columns: tuple[str, ...]
    rows: list[Row]
    counted: Span | None = None


@dataclass(frozen=True, slots=True)
class Where:
    """Which verdicts; None: all. since is inclusive, until exclusive. station: its name, or
    ``site/name``. bundle: the beginning of an id. label: the station's."""

    since: datetime | None = None
    until: datetime | None = None
    station: str | None = None
    die: str | None = None
    bundle: str | None = None
    part: str | None = None
    lot: str | None = None
    label: str | None = None
    reason: str | None = None

    @property
    def span(self) -> Span:
        return Span(self.since, self.until)


@dataclass(frozen=True, slots=True)
class Shifts:
    """When shifts begin, in a zone."""

    starts: tuple[time, ...]
    zone: tzinfo

    def __post_init__(self) -> None:
        for start in self.starts:
            if start.tzinfo is not None:
                raise UsageError(
                    f"shift {start}: wanted no offset, such as 06:00; the zone is said once for all"
                )
        odd = [start for start in self.starts if _s_of(start) % BUCKET_S]
        if odd or not self.starts:
            raise UsageError("shifts must begin at a full, half or quarter hour, such as 06:00")

    def of(self, moment: datetime) -> str:
        """The shift's own first day, hour and offset from UTC."""
        local = moment.astimezone(self.zone)
        day, begun = local.date(), [s for s in sorted(self.starts) if s <= local.time()]
        if not begun:
            day, begun = day - timedelta(days=1), sorted(self.starts)
        begins = datetime.combine(day, begun[-1], self.zone)
        return begins.isoformat(sep=" ", timespec="minutes")


def _s_of(start: time) -> float:
    return start.hour * 3600 + start.minute * 60 + start.second + start.microsecond / 1e6


def of_station(where: Where) -> list[ColumnElement[bool]]:
    """What a row of ``station`` must be; empty for any."""
    if where.station is None:
        return []
    site, _, name = where.station.rpartition("/")
    return [station.c.name == name, *([station.c.site == site] if site else [])]


def of_bundle(where: Where) -> Select[Any] | None:
    """The numbers of the bundles that are meant; None for any."""
    if where.bundle is None:
        return None
    begins = bundle.c.bundle_id.startswith(where.bundle, autoescape=True)
    return select(bundle.c.bundle_no).where(begins)


def within(column: ColumnElement[Any], span: Span) -> list[ColumnElement[bool]]:
    """What a column of times must be; empty for any."""
    conditions: list[ColumnElement[bool]] = []
    if span.since is not None:
        conditions.append(column >= span.since)
    if span.until is not None:
        conditions.append(column < span.until)
    return conditions


def of_verdicts(where: Where) -> list[ColumnElement[bool]]:
    """What a row of ``verdict`` must be; empty for any."""
    conditions = within(verdict.c.time, where.span)
    stations = of_station(where)
    if stations:
        conditions.append(verdict.c.station_id.in_(select(station.c.station_id).where(*stations)))
    wanted = of_bundle(where)
    if wanted is not None:
        conditions.append(verdict.c.bundle_no.in_(wanted))
    for column, value in (
        (verdict.c.die, where.die),
        (verdict.c.part_id, where.part),
        (verdict.c.lot, where.lot),
        (verdict.c.label, where.label),
        (verdict.c.reason, where.reason),
    ):
        if value is not None:
            conditions.append(column == value)
    return conditions
