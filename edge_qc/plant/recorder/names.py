"""What is recorded at all: names that a question may use, and from when to when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo

from sqlalchemy import Column, Connection, Engine, func, select

from edge_qc.errors import UsageError
from edge_qc.plant.recorder.tables import bundle, part, station, tally_day, verdict
from edge_qc.plant.recorder.where import Where, of_bundle, of_station

_MOST = 20


def require_known(engine: Engine, where: Where) -> None:
    """Raise UsageError for a name that is not recorded, with those that are: an answer of nothing
    would read as if nothing had happened."""
    with engine.connect() as db:
        if where.station is not None:
            found = select(station.c.station_id).where(*of_station(where))
            if db.execute(found.limit(1)).first() is None:
                rows = db.execute(select(station.c.site, station.c.name))
                raise _unknown("station", where.station, [f"{site}/{name}" for site, name in rows])
        bundles = of_bundle(where)
        if bundles is not None and db.execute(bundles.limit(1)).first() is None:
            ids = db.execute(select(bundle.c.bundle_id).order_by(bundle.c.bundle_no.desc()))
            raise _unknown("bundle", str(where.bundle), [one[:12] for one in ids.scalars()])
        for name, value in (("die", where.die), ("label", where.label), ("reason", where.reason)):
            column = tally_day.c[name]
            if value is not None and not _holds(db, column, value):
                known = db.execute(select(column).distinct()).scalars()
                raise _unknown(name, value, [one for one in known if one])
        if where.lot is not None and not _holds(db, verdict.c.lot, where.lot):
            raise _unknown("lot", where.lot, _newest(db, verdict.c.lot, verdict.c.time))
        if where.part is not None and not (
            _holds(db, verdict.c.part_id, where.part) or _holds(db, part.c.part_id, where.part)
        ):
            newest = _newest(db, verdict.c.part_id, verdict.c.time)
            raise _unknown("part", where.part, newest, "the newest are")


def recorded_span(engine: Engine, zone: tzinfo) -> str:
    """From when to when there are verdicts, in words."""
    with engine.connect() as db:
        first = db.execute(select(func.min(verdict.c.time))).scalar()
        last = db.execute(select(func.max(verdict.c.time))).scalar()
        counted = db.execute(select(func.max(tally_day.c.bucket))).scalar()
    if first is None or last is None:
        if counted is None:
            return "no verdict is recorded yet"
        return f"all single verdicts were deleted (--keep-days), the last are of {counted:%Y-%m-%d}"
    return f"verdicts are recorded from {_told(first, zone)} to {_told(last, zone)}"


def _told(moment: datetime, zone: tzinfo) -> str:
    return moment.astimezone(zone).isoformat(sep=" ", timespec="seconds")


def _holds(db: Connection, column: Column[str], value: str) -> bool:
    return db.execute(select(column).where(column == value).limit(1)).first() is not None


def _newest(db: Connection, column: Column[str], time: Column[datetime]) -> list[str]:
    rows = db.execute(select(column).where(column.is_not(None)).order_by(time.desc()).limit(500))
    return list(dict.fromkeys(rows.scalars()))


def _unknown(what: str, name: str, known: Sequence[str], there: str = "there are") -> UsageError:
    if not known:
        return UsageError(f"{what} {name!r} is not recorded, nor is any other")
    told = ", ".join(sorted(known[:_MOST]) if there == "there are" else known[:5])
    more = f" and {len(known) - _MOST} more" if len(known) > _MOST else ""
    return UsageError(f"{what} {name!r} is not recorded; {there} {told}{more}")
