"""The last hours out of the records, so that the dashboard survives its own restart.

Read once at a start, in the thread that then listens to the broker. The number of each message that
is counted here is noted, so that it counts once if the broker delivers it too.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, or_, select

from edge_qc.parts import NOT_JUDGED, Disposition
from edge_qc.plant.dashboard.history import BIN_S, BINS
from edge_qc.plant.dashboard.plant import NAME, Happening, PlantState, placed, severity_of_state
from edge_qc.plant.dashboard.records.recorded import Records, read_verdicts
from edge_qc.plant.recorder.database import wrapped
from edge_qc.plant.recorder.tables import event, part, state_change, station, stream, verdict
from edge_qc.publisher import Kind, Severity
from edge_qc.system.state import State

_MOST = 500_000
"""Verdicts, or parts, that are counted at most: seconds of work at a start."""
_LISTED = 2_000
_EVENTS = 500
_AT_ONCE = 5_000

Uptos = dict[tuple[str, str, Kind], int]
"""What is recorded without a gap, by station, epoch and kind."""


def uptos(records: Records, since: datetime) -> Uptos:
    """Of each station's newest epoch, and of those that began since then. Raises RecordError."""
    newest = select(func.max(stream.c.stream_id)).group_by(stream.c.station_id, stream.c.kind)
    query = (
        select(stream.c.epoch, stream.c.kind, stream.c.upto, station.c.site, station.c.name)
        .join(station, station.c.station_id == stream.c.station_id)
        .where(or_(stream.c.first_received >= since, stream.c.stream_id.in_(newest)))
        .order_by(stream.c.stream_id)
    )
    with wrapped(records.engine), records.engine.connect() as db:
        rows = db.execute(query).all()
    return {(f"{row.site}/{row.name}", row.epoch, Kind(row.kind)): row.upto for row in rows}


def recall(records: Records, plant: PlantState, now: datetime) -> None:
    """Fill a plant's history, lists and numbers with the last eight hours. Raises RecordError."""
    since = now - timedelta(seconds=BINS * BIN_S)
    known = uptos(records, since)
    for (name, epoch, kind), upto in known.items():
        plant.note_recorded(name, kind, epoch, upto)
    with wrapped(records.engine), records.engine.connect() as db:
        _recall_views(records, db, plant, since, now, known)
        _recall_parts(db, plant, since, now, known)
        _recall_lists(db, plant, since)
        _recall_alarms(db, plant, since, now)
        plant.events.extend(sorted(_happenings(db, since), key=lambda one: one.time)[-_EVENTS:])


def _recall_views(
    records: Records,
    db: Connection,
    plant: PlantState,
    since: datetime,
    now: datetime,
    known: Uptos,
) -> None:
    thresholds: dict[tuple[int, str], float | None] = {}
    columns = (
        verdict.c.time, verdict.c.die, verdict.c.label, verdict.c.disposition, verdict.c.historical,
        verdict.c.drift_score, verdict.c.latency_ms, verdict.c.bundle_no, verdict.c.seq,
    )  # fmt: skip
    for row in _rows(db, verdict, columns, since):
        name = f"{row.site}/{row.station}"
        if not _is_new(plant, known, name, row.epoch, Kind.VERDICT, row.seq):
            continue
        ratio = None
        if row.drift_score is not None and row.bundle_no is not None:
            pair = row.bundle_no, row.die or ""
            if pair not in thresholds:
                thresholds |= records.thresholds(db, {pair: since})
            threshold = thresholds[pair]
            ratio = max(0.0, row.drift_score / threshold) if threshold else None
        plant.views.add(
            (name, (row.die or "-")[:NAME]),
            placed(row.time, now),
            row.label[:NAME],
            Disposition(row.disposition),
            judged=row.label != NOT_JUDGED,
            drift=ratio,
            latency_ms=row.latency_ms,
            historical=row.historical,
        )


def _recall_parts(
    db: Connection, plant: PlantState, since: datetime, now: datetime, known: Uptos
) -> None:
    columns = (
        part.c.time, part.c.label, part.c.disposition, part.c.complete, part.c.historical,
        part.c.seq,
    )  # fmt: skip
    for row in _rows(db, part, columns, since):
        name = f"{row.site}/{row.station}"
        if _is_new(plant, known, name, row.epoch, Kind.PART, row.seq):
            plant.parts.add(
                (name, ""),
                placed(row.time, now),
                row.label[:NAME],
                Disposition(row.disposition),
                judged=row.complete,
                historical=row.historical,
            )


def _is_new(plant: PlantState, known: Uptos, name: str, epoch: str, kind: Kind, seq: int) -> bool:
    """Whether to count a recorded message; notes its number if it stands beyond a hole."""
    return seq <= known.get((name, epoch, kind), 0) or plant.numbers_of(name, kind).note(epoch, seq)


def _rows(db: Connection, table: Any, columns: Any, since: datetime) -> Iterator[Any]:
    query = (
        select(*columns, station.c.site, station.c.name.label("station"), stream.c.epoch)
        .join(station, station.c.station_id == table.c.station_id)
        .join(stream, stream.c.stream_id == table.c.stream_id)
        .where(table.c.time >= since)
        .order_by(table.c.time.desc())
        .limit(_MOST)
    )
    yield from db.execution_options(yield_per=_AT_ONCE).execute(query)


def _recall_lists(db: Connection, plant: PlantState, since: datetime) -> None:
    for refused, into in ((False, plant.verdicts), (True, plant.refused)):
        query = select(verdict.c.payload).where(verdict.c.time >= since)
        if refused:
            query = query.where(verdict.c.disposition != "PASS")
        newest = query.order_by(verdict.c.time.desc()).limit(_LISTED)
        for message in reversed(read_verdicts(db.execute(newest).scalars())):
            name = f"{message.site}/{message.station}"
            # One that came since will come from the broker.
            if plant.numbers_of(name, Kind.VERDICT).has(message.epoch, message.seq):
                into.append((name, message))


def _recall_alarms(db: Connection, plant: PlantState, since: datetime, now: datetime) -> None:
    """Of each kind of event the latest: more do not change what is open."""
    named = station.c.site, station.c.name, event.c.event, event.c.severity
    query = (
        select(*named, func.max(event.c.time))
        .join(station, station.c.station_id == event.c.station_id)
        .where(event.c.time >= since)
        .group_by(*named)
    )
    for site, name, what, severity, time in db.execute(query):
        plant.alarms.note(f"{site}/{name}", what[:NAME], Severity(severity), placed(time, now))


def _happenings(db: Connection, since: datetime) -> Iterator[Happening]:
    of_station = station.c.site, station.c.name
    for row in db.execute(
        select(event, *of_station)
        .join(station, station.c.station_id == event.c.station_id)
        .where(event.c.time >= since)
        .order_by(event.c.time.desc())
        .limit(_EVENTS)
    ):
        yield Happening(
            f"{row.site}/{row.name}", row.time, Severity(row.severity), row.event[:NAME],
            row.detail, row.historical,
        )  # fmt: skip
    for row in db.execute(
        select(state_change, *of_station)
        .join(station, station.c.station_id == state_change.c.station_id)
        .where(state_change.c.observed >= since)
        .order_by(state_change.c.observed.desc())
        .limit(_EVENTS)
    ):
        state = State(row.state)
        yield Happening(
            f"{row.site}/{row.name}", row.observed, severity_of_state(state, row.why), row.state,
            row.why, False, state,
        )  # fmt: skip
