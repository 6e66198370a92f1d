"""A query's filter, its shifts, and its result table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo
from typing import Any

from sqlalchemy import ColumnElement, Select, select

from edge_qc.errors import UsageError
from edge_qc.plant.recorder.tables import BUCKET_S, bundle, station

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """A table: names of columns, and rows."""

    columns: tuple[str, ...]
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Where:
    """Which verdicts; None: all. since is inclusive, until exclusive. station: its name, or
    ``site/name``. bundle: the beginning of an id."""

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
            raise UsageError("shifts must begin at a full, half or quarter hour, such as 06:00")

    def of(self, moment: datetime) -> str:
        """The shift's own first day, hour and offset from UTC."""
        local = moment.astimezone(self.zone)
        day, begun = local.date(), [s for s in sorted(self.starts) if s <= local.time()]
        if not begun:
            day, begun = day - timedelta(days=1), sorted(self.starts)
        begins = datetime.combine(day, begun[-1], self.zone)
        return begins.isoformat(sep=" ", timespec="minutes")


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
