"""Queries for single verdicts, labels and missing numbers; read-only, each uses an index.

``counts`` counts verdicts.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import ColumnElement, Engine, func, select

from edge_qc.evidence import UNUSABLE
from edge_qc.parts import GOOD
from edge_qc.plant.recorder.labels import latest_labels
from edge_qc.plant.recorder.tables import (
    bundle,
    event,
    gap,
    part,
    station,
    stream,
    verdict,
)
from edge_qc.plant.recorder.where import Answer, Row, Where, of_bundle, of_station

VERDICT_COLUMNS = (
    "verdict_id", "time", "site", "station", "camera", "die", "part_id", "label", "disposition",
    "reason", "drift_score", "drift_p", "expected_cost", "latency_ms", "bundle", "bundle_version",
    "epoch", "seq", "historical", "truth", "labelled_by",
)  # fmt: skip


def verdicts(
    engine: Engine, where: Where, *, not_passed: bool = False, limit: int | None = None
) -> Iterator[Row]:
    """Single verdicts with ``VERDICT_COLUMNS``, oldest first, or with a limit the newest first."""
    truth = latest_labels()
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
    """Verdicts that passed and that a person has labelled as anything but GOOD."""
    truth = latest_labels()
    query = (
        select(
            verdict.c.time, station.c.name, verdict.c.die, verdict.c.part_id, truth.c.truth,
            verdict.c.drift_p, verdict.c.expected_cost, verdict.c.verdict_id, truth.c.labelled_by,
            truth.c.time, truth.c.note,
        )
        .join(truth, truth.c.verdict_id == verdict.c.verdict_id)
        .join(station, station.c.station_id == verdict.c.station_id)
        .where(
            verdict.c.disposition == "PASS",
            truth.c.truth.not_in((GOOD, UNUSABLE)),
            *_of_verdicts(where),
        )
        .order_by(verdict.c.time)
    )  # fmt: skip
    columns = ("time", "station", "die", "part_id", "truth", "drift_p", "expected_cost",
               "verdict_id", "labelled_by", "labelled", "note")  # fmt: skip
    with engine.connect() as db:
        return Answer(columns, [tuple(row) for row in db.execute(query)])


def labelled(engine: Engine, where: Where) -> dict[tuple[str, str], int]:
    """How many labelled verdicts of each (true label, said label); UNUSABLE ones are left out."""
    truth = latest_labels()
    query = (
        select(truth.c.truth, verdict.c.label, func.count())
        .join(truth, truth.c.verdict_id == verdict.c.verdict_id)
        .where(truth.c.truth != UNUSABLE, *_of_verdicts(where))
        .group_by(truth.c.truth, verdict.c.label)
    )
    with engine.connect() as db:
        return {(true, said): int(n) for true, said, n in db.execute(query)}


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
    """Missing numbers by stream. final: the station has reported them lost."""
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
        for kind, table in _TABLES.items():
            # Few streams have numbers above the acknowledged one; an index finds them.
            highest = (
                select(func.max(table.c.seq))
                .where(table.c.stream_id == stream.c.stream_id)
                .scalar_subquery()
            )
            waiting = select(stream.c.stream_id, stream.c.upto).where(
                stream.c.kind == kind, highest > stream.c.upto
            )
            for number, upto in db.execute(waiting).all():
                *whose, _ = streams[number]
                above = select(table.c.seq).where(table.c.stream_id == number, table.c.seq > upto)
                before = upto
                for seq in db.execute(above.order_by(table.c.seq)).scalars():
                    if seq > before + 1:
                        rows.append((*whose, before + 1, seq - 1, seq - before - 1, False))
                    before = seq
    columns = ("site", "station", "epoch", "kind", "first", "last", "missing", "final")
    return Answer(columns, sorted(rows))


_TABLES = {"verdict": verdict, "part": part, "event": event}


def _of_verdicts(where: Where) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    stations = of_station(where)
    if stations:
        conditions.append(verdict.c.station_id.in_(select(station.c.station_id).where(*stations)))
    if where.since is not None:
        conditions.append(verdict.c.time >= where.since)
    if where.until is not None:
        conditions.append(verdict.c.time < where.until)
    if where.die is not None:
        conditions.append(verdict.c.die == where.die)
    wanted = of_bundle(where)
    if wanted is not None:
        conditions.append(verdict.c.bundle_no.in_(wanted))
    return conditions
