"""Verdicts beside people's labels: escapes in views and in parts, counts for the figures of
quality, and who labelled what when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Subquery, and_, case, func, or_, select

from edge_qc.evidence import UNUSABLE
from edge_qc.evidence.labels import WITHDRAWN
from edge_qc.parts import GOOD
from edge_qc.plant.recorder.labels import latest_labels
from edge_qc.plant.recorder.parts import Part, View, parts_of
from edge_qc.plant.recorder.tables import label, station, verdict
from edge_qc.plant.recorder.where import Answer, Row, Where, of_verdicts


def escapes(engine: Engine, where: Where) -> Answer:
    """Views that passed, or that a person released from REVIEW, and that a person has labelled as a
    defect."""
    truth = latest_labels()
    released = _released()
    released_by = (
        select(released.c.labelled_by)
        .where(released.c.verdict_id == verdict.c.verdict_id)
        .order_by(released.c.time.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = (
        select(
            verdict.c.time, station.c.name, verdict.c.die, verdict.c.part_id, truth.c.truth,
            verdict.c.drift_p, verdict.c.expected_cost, verdict.c.verdict_id, truth.c.labelled_by,
            truth.c.time, truth.c.note,
            case((verdict.c.disposition == "REVIEW", released_by), else_=None),
        )
        .join(truth, truth.c.verdict_id == verdict.c.verdict_id)
        .join(station, station.c.station_id == verdict.c.station_id)
        .where(
            or_(
                verdict.c.disposition == "PASS",
                and_(verdict.c.disposition == "REVIEW", released_by.is_not(None)),
            ),
            truth.c.truth.not_in((GOOD, UNUSABLE)),
            *of_verdicts(where),
        )
        .order_by(verdict.c.time)
    )  # fmt: skip
    columns = ("time", "station", "die", "part_id", "truth", "drift_p", "expected_cost",
               "verdict_id", "labelled_by", "labelled", "note", "released_by")  # fmt: skip
    with engine.connect() as db:
        return Answer(columns, [tuple(row) for row in db.execute(query)])


def _released() -> Subquery:
    """Labels GOOD that stood until another class took their place. One that was taken back, by
    itself or with a key, released nothing."""
    after = func.lead(label.c.truth).over(
        partition_by=label.c.verdict_id, order_by=(label.c.time, label.c.label_no)
    )
    given = select(label, after.label("after")).subquery()
    return (
        select(given.c.verdict_id, given.c.labelled_by, given.c.time)
        .where(given.c.truth == GOOD, given.c.after.not_in((GOOD, UNUSABLE, WITHDRAWN)))
        .subquery("released")
    )


def escaped_parts(engine: Engine, where: Where) -> Answer:
    """Whole parts that passed although a person has labelled one of their views as a defect. A bad
    part that was rejected for another of its views is none."""
    with engine.connect() as db:
        rows: list[Row] = [
            (
                part.first,
                part.station,
                part.part_id,
                ", ".join(sorted({bad[view.verdict_id] for view in part.views if _in(view, bad)})),
                ", ".join(view.die or "?" for view in part.views if _in(view, bad)),
                sum(_in(view, bad) for view in part.views),
                len(part.views),
            )
            for part, bad in _bad_parts(db, where)
            if part.passed
        ]
    columns = ("time", "station", "part_id", "truth", "dies", "bad_views", "views")
    return Answer(columns, rows)


def bad_parts(engine: Engine, where: Where) -> tuple[int, int]:
    """How many whole parts with a view that a person has labelled as a defect passed, and how many
    such parts there are. Views without a part id are left out."""
    with engine.connect() as db:
        passed = [part.passed for part, _ in _bad_parts(db, where)]
    return sum(passed), len(passed)


def confusion(engine: Engine, where: Where) -> dict[tuple[str, str], int]:
    """How many labelled views of each (true label, said label); UNUSABLE ones are left out."""
    truth = latest_labels()
    query = (
        select(truth.c.truth, verdict.c.label, func.count())
        .join(truth, truth.c.verdict_id == verdict.c.verdict_id)
        .where(truth.c.truth != UNUSABLE, *of_verdicts(where))
        .group_by(truth.c.truth, verdict.c.label)
    )
    with engine.connect() as db:
        return {(true, said): int(n) for true, said, n in db.execute(query)}


def history(engine: Engine, where: Where) -> Answer:
    """Every label that was ever given, oldest first: who said what when, and what it changed. Times
    of ``where`` are those of the labels."""
    before = func.lag(label.c.truth).over(
        partition_by=label.c.verdict_id, order_by=(label.c.time, label.c.label_no)
    )
    given = select(label, before.label("before")).subquery()
    of_views = of_verdicts(Where(None, None, *_without_times(where)))
    query = (
        select(
            given, verdict.c.label.label("judged"), verdict.c.die, verdict.c.part_id, station.c.name
        )
        .outerjoin(verdict, verdict.c.verdict_id == given.c.verdict_id)
        .outerjoin(station, station.c.station_id == verdict.c.station_id)
        .where(*of_views)
        .order_by(given.c.time, given.c.label_no)
    )
    if where.since is not None:
        query = query.where(given.c.time >= where.since)
    if where.until is not None:
        query = query.where(given.c.time < where.until)
    with engine.connect() as db:
        rows = [
            (
                row.time, row.labelled_by, _change(row), row.said or row.judged, row.before or None,
                row.truth or None, row.verdict_id, row.name, row.die, row.part_id,
                row.via or "label", row.note,
            )
            for row in db.execute(query)
        ]  # fmt: skip
    columns = ("time", "who", "what", "said", "before", "truth", "verdict_id", "station", "die",
               "part_id", "via", "note")  # fmt: skip
    return Answer(columns, rows)


def _change(row: Any) -> str:
    """What a label did: withdrew or changed a person's, overruled the station or confirmed it."""
    if row.truth == WITHDRAWN:
        return "withdrawn"
    if row.before and row.before != row.truth:
        return "changed"
    return "confirmed" if row.truth == (row.said or row.judged) else "overruled"


def _without_times(where: Where) -> tuple[str | None, ...]:
    return (
        where.station, where.die, where.bundle, where.part, where.lot, where.label, where.reason
    )  # fmt: skip


def _bad_parts(db: Connection, where: Where) -> list[tuple[Part, Mapping[str, str]]]:
    """Parts with a view that is meant and labelled as a defect, oldest first; and their defects, by
    verdict id."""
    truth = latest_labels()
    rows = db.execute(
        select(truth.c.verdict_id, truth.c.truth, verdict.c.part_id, verdict.c.time)
        .join(verdict, verdict.c.verdict_id == truth.c.verdict_id)
        .where(
            truth.c.truth.not_in((GOOD, UNUSABLE)),
            verdict.c.part_id.is_not(None),
            *of_verdicts(where),
        )
    ).all()
    labelled = {row.verdict_id: row.truth for row in rows}
    found: dict[Row, Part] = {}
    for row in rows:
        moment = Where(since=row.time, until=row.time + timedelta(microseconds=1))
        for part in parts_of(db, row.part_id, moment):
            if any(view.verdict_id == row.verdict_id for view in part.views):
                found[part.station, part.part_id, part.first] = part
    return [(part, labelled) for part in sorted(found.values(), key=lambda one: one.first)]


def _in(view: View, bad: Mapping[str, str]) -> bool:
    return view.verdict_id in bad
