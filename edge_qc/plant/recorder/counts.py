"""Counts of verdicts by outcome, from the tallies; ``spans`` says which rows are added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, time, timedelta, timezone
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Select,
    Subquery,
    case,
    func,
    select,
)

from edge_qc.errors import UsageError
from edge_qc.inspection.part import INCOMPLETE
from edge_qc.parts import NOT_JUDGED
from edge_qc.plant.recorder.spans import counts_of, counts_of_parts
from edge_qc.plant.recorder.tables import BUCKET_S, DAY_S, HOUR_S, bundle, station
from edge_qc.plant.recorder.where import Answer, Row, Shifts, Where, of_bundle, of_station

_IN_TIME = ("day", "hour", "shift")
DIMENSIONS = ("shift", "day", "hour", "station", "die", "class", "bundle", "reason")

VIEWS, PARTS = "views", "parts"
_OF_PARTS = ("shift", "day", "hour", "station", "class")
FIGURES = {
    VIEWS: ("views", "passed", "rejected", "review", "not_judged", "yield", "expected_cost"),
    PARTS: ("parts", "passed", "rejected", "review", "incomplete", "yield"),
}
_UNJUDGED = {VIEWS: NOT_JUDGED, PARTS: INCOMPLETE}


def yields(
    engine: Engine, where: Where, by: Sequence[str], shifts: Shifts, of: str = VIEWS
) -> Answer:
    """How many views, or whole parts, and what became of them, by some of ``DIMENSIONS``.

    of: ``VIEWS`` or ``PARTS``. yield: the share of judged views, or of complete parts, that passed;
    None if there was none. The answer says what was counted if that is more than ``where`` asks
    for. Raises UsageError for a dimension that parts do not have.
    """
    unknown = [name for name in (*by, *_only_of_views(where)) if name not in _OF_PARTS]
    if of == PARTS and unknown:
        raise UsageError(
            f"a whole part has no {unknown[0]}; ask of parts by {', '.join(_OF_PARTS)}, or ask "
            "of views"
        )
    timed = [name for name in by if name in _IN_TIME]
    others = [name for name in by if name not in _IN_TIME]
    found: dict[Row, list[float]] = {}
    with engine.connect() as db:
        if of == PARTS:
            counts, counted = counts_of_parts(db, where), where.span
        else:
            counts, counted = counts_of(db, where, _grain_s(timed, shifts))
        groups = [
            *([counts.c.bucket] if timed else []),
            *(counts.c[_COLUMN[name]] for name in others),
        ]
        sums = [
            func.sum(counts.c.n),
            *(
                func.sum(case((counts.c.disposition == kind, counts.c.n), else_=0))
                for kind in ("PASS", "REJECT", "REVIEW")
            ),
            func.sum(case((counts.c.label == _UNJUDGED[of], counts.c.n), else_=0)),
            func.sum(counts.c.expected_cost),
        ]
        query = _only(select(*groups, *sums), counts, where).group_by(*groups)
        first = len(groups)
        names = {name: _names(db, name) for name in others if name in ("station", "bundle")}
        # Time zones are slow, so compute each time once, not once per row.
        periods: dict[datetime, list[str]] = {}
        for row in db.execute(query):
            if row[first] is None:
                continue
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
    figures = FIGURES[of]
    rows = []
    for group in sorted(found, key=lambda one: tuple(str(value) for value in one)):
        n, passed, rejected, review, unjudged, cost = found[group]
        share = passed / (n - unjudged) if n > unjudged else None
        told_of = (*map(int, (n, passed, rejected, review, unjudged)), share, float(cost))
        rows.append((*group, *told_of[: len(figures)]))
    return Answer((*by, *figures), rows, None if counted == where.span else counted)


def total(engine: Engine, where: Where, of: str = VIEWS) -> int:
    """How many views, or whole parts."""
    shifts = Shifts((time(0),), timezone.utc)
    return sum(row[0] for row in yields(engine, where, (), shifts, of).rows)


def _only_of_views(where: Where) -> list[str]:
    asked = {"die": where.die, "bundle": where.bundle, "reason": where.reason}
    return [name for name, value in asked.items() if value is not None]


def said(engine: Engine, where: Where) -> Answer:
    """How many verdicts of each label, labelled by a person or not."""
    with engine.connect() as db:
        counts, counted = counts_of(db, where, DAY_S)
        query = _only(select(counts.c.label, func.sum(counts.c.n)), counts, where)
        rows = [(name, int(n)) for name, n in db.execute(query.group_by(counts.c.label))]
    return Answer(("label", "verdicts"), rows, None if counted == where.span else counted)


_COLUMN = {
    "station": "station_id",
    "die": "die",
    "class": "label",
    "bundle": "bundle_no",
    "reason": "reason",
}


def _names(db: Connection, dimension: str) -> dict[int, str]:
    """Of stations, or of bundles, by their numbers. Two stations of one name are told apart by
    their sites."""
    if dimension == "bundle":
        bundles = db.execute(select(bundle.c.bundle_no, bundle.c.bundle_id))
        return {row.bundle_no: row.bundle_id for row in bundles}
    stations = db.execute(select(station)).all()
    often = Counter(row.name for row in stations)
    return {
        row.station_id: row.name if often[row.name] == 1 else f"{row.site}/{row.name}"
        for row in stations
    }


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


def _only(query: Select[Any], counts: Subquery, where: Where) -> Select[Any]:
    stations, wanted = of_station(where), of_bundle(where)
    if stations:
        query = query.where(counts.c.station_id.in_(select(station.c.station_id).where(*stations)))
    if wanted is not None:
        query = query.where(counts.c.bundle_no.in_(wanted))
    wanted_values = (("die", where.die), ("label", where.label), ("reason", where.reason))
    return query.where(
        *(counts.c[name] == value for name, value in wanted_values if value is not None)
    )
