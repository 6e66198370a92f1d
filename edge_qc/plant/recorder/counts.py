"""Counts of verdicts by outcome, from the tallies; ``spans`` says which rows are added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, time, timezone
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
from edge_qc.plant.recorder import periods
from edge_qc.plant.recorder.spans import counts_of, counts_of_parts, grouped
from edge_qc.plant.recorder.tables import DAY_S, bundle, station
from edge_qc.plant.recorder.where import Answer, Row, Shifts, Where, of_bundle, of_station

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
    timed = [name for name in by if name in periods.IN_TIME]
    others = [name for name in by if name not in periods.IN_TIME]
    found: dict[Row, list[float]] = {}
    grain_s = periods.grain(timed, shifts)
    with engine.connect() as db:
        begun: list[datetime] = []
        if of == PARTS:
            counts, counted = counts_of_parts(db, where), where.span
        else:
            counts, counted = counts_of(db, where, grain_s)
            begun = periods.begins(db, counted, timed, shifts, grain_s)
        bucket = periods.number(counts.c.bucket, begun) if begun else counts.c.bucket
        groups = [*([bucket] if timed else []), *(counts.c[_COLUMN[name]] for name in others)]
        sums = [
            func.sum(counts.c.n),
            *(
                func.sum(case((counts.c.disposition == kind, counts.c.n), else_=0))
                for kind in ("PASS", "REJECT", "REVIEW")
            ),
            func.sum(case((counts.c.label == _UNJUDGED[of], counts.c.n), else_=0)),
            func.sum(counts.c.expected_cost),
        ]
        first = len(groups)
        query = grouped(_only(select(*groups, *sums), counts, where), first)
        names = {name: _names(db, name) for name in others if name in ("station", "bundle")}
        # Time zones are slow, so compute each time once, not once per row.
        told: dict[Any, Row] = {}
        places = [[*timed, *others].index(name) for name in by]
        for row in db.execute(query):
            if row[first] is None:
                continue
            period: Row = ()
            if timed:
                if row[0] not in told:
                    moment = begun[row[0] - 1] if begun else row[0]
                    told[row[0]] = tuple(periods.told(name, moment, shifts) for name in timed)
                period = told[row[0]]
            values = [
                names[name].get(value, "") if name in names else value
                for name, value in zip(others, row[first - len(others) : first], strict=True)
            ]
            both = (*period, *values)
            key = tuple([both[place] for place in places])
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
