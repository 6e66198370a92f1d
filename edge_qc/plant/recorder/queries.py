"""Queries for single verdicts and missing numbers; read-only, each uses an index.

``counts`` counts verdicts, ``truths`` compares them with people's labels.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Engine, func, or_, select

from edge_qc.plant.recorder.labels import latest_labels
from edge_qc.plant.recorder.missing import open_gaps
from edge_qc.plant.recorder.tables import (
    bundle,
    event,
    gap,
    part,
    station,
    stream,
    verdict,
)
from edge_qc.plant.recorder.where import Answer, Row, Where, of_verdicts

VERDICT_COLUMNS = (
    "verdict_id", "time", "site", "station", "camera", "die", "part_id", "lot", "serial", "label",
    "disposition", "reason", "drift_score", "drift_p", "expected_cost", "latency_ms", "bundle",
    "bundle_version", "epoch", "seq", "historical", "truth", "labelled_by",
)  # fmt: skip


def verdicts(
    engine: Engine, where: Where, *, not_passed: bool = False, limit: int | None = None
) -> Iterator[Row]:
    """Single verdicts with ``VERDICT_COLUMNS``, oldest first, or with a limit the newest first."""
    truth = latest_labels()
    query = (
        select(
            verdict.c.verdict_id, verdict.c.time, station.c.site, station.c.name, verdict.c.camera,
            verdict.c.die, verdict.c.part_id, verdict.c.lot, verdict.c.serial, verdict.c.label,
            verdict.c.disposition, verdict.c.reason, verdict.c.drift_score, verdict.c.drift_p,
            verdict.c.expected_cost, verdict.c.latency_ms, bundle.c.bundle_id, bundle.c.version,
            stream.c.epoch, verdict.c.seq, verdict.c.historical, truth.c.truth, truth.c.labelled_by,
        )
        .join(station, station.c.station_id == verdict.c.station_id)
        .join(stream, stream.c.stream_id == verdict.c.stream_id)
        .outerjoin(bundle, bundle.c.bundle_no == verdict.c.bundle_no)
        .outerjoin(truth, truth.c.verdict_id == verdict.c.verdict_id)
        .where(*of_verdicts(where))
    )  # fmt: skip
    if not_passed:
        query = query.where(verdict.c.disposition != "PASS")
    query = query.order_by(verdict.c.time if limit is None else verdict.c.time.desc())
    with engine.connect().execution_options(yield_per=5000) as db:
        for row in db.execute(query if limit is None else query.limit(limit)):
            yield tuple(row)


def held(engine: Engine, where: Where) -> int:
    """How many single verdicts are still there (``--keep-days``)."""
    query = select(func.count()).select_from(verdict).where(*of_verdicts(where))
    with engine.connect() as db:
        return int(db.execute(query).scalar_one())


def kept_costs(engine: Engine) -> str | None:
    """The cost matrix of the newest bundle that ``edge-qc record --bundle`` was given."""
    with engine.connect() as db:
        return db.execute(
            select(bundle.c.costs)
            .where(bundle.c.costs.is_not(None))
            .order_by(bundle.c.version.desc())
            .limit(1)
        ).scalar_one_or_none()


def streams(engine: Engine) -> int:
    """How many streams there are: the verdicts, parts or events of one start of a station."""
    with engine.connect() as db:
        return int(db.execute(select(func.count()).select_from(stream)).scalar_one())


def gaps(engine: Engine, where: Where | None = None) -> Answer:
    """Missing numbers by stream. final: the station has reported them lost. where: only its
    station is heeded."""
    rows: list[Row] = []
    whose = (station.c.site, station.c.name, stream.c.epoch, stream.c.kind)
    with engine.connect() as db:
        given_up = select(*whose, gap.c.first, gap.c.last).select_from(gap).join(stream)
        for *of, first, last in db.execute(given_up.join(station)).all():
            rows.append((*of, first, last, last - first + 1, True))
        # Few streams have numbers above the acknowledged one; an index finds them.
        above = (
            select(table.c.seq).where(
                table.c.stream_id == stream.c.stream_id, table.c.seq > stream.c.upto
            )
            for table in (verdict, part, event)
        )
        waiting = select(*whose, stream.c.stream_id, stream.c.upto).join(station)
        for *of, number, upto in db.execute(
            waiting.where(or_(stream.c.pruned.is_not(None), *(one.exists() for one in above)))
        ).all():
            for first, last in open_gaps(db, number, of[-1], upto):
                rows.append((*of, first, last, last - first + 1, False))
    columns = ("site", "station", "epoch", "kind", "first", "last", "missing", "final")
    wanted = None if where is None else where.station
    return Answer(columns, sorted(row for row in rows if _is_of(row, wanted)))


def _is_of(row: Row, wanted: str | None) -> bool:
    return wanted in (None, row[1], f"{row[0]}/{row[1]}")
