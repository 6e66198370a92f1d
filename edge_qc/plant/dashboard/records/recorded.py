"""The page's sections for a shift, a day or a week, out of the recorder's database.

It only reads: counts from the tallies and the part verdicts, single verdicts, events and changes of
state from their tables. ``recall`` reads the last hours at a start, ``handover`` the page of that
name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, func, select

from edge_qc.errors import PublishError
from edge_qc.plant.dashboard import figures
from edge_qc.plant.dashboard.filters import Filter
from edge_qc.plant.dashboard.headline import Document
from edge_qc.plant.dashboard.plant import severity_of_state
from edge_qc.plant.dashboard.records.counted import (
    dies,
    grain_of,
    intervals,
    of_station,
    outcomes,
    pareto,
    passing,
    stored_die,
    within,
)
from edge_qc.plant.dashboard.records.periods import Period, period_before, period_of
from edge_qc.plant.dashboard.rows import SAME_PART_S, happened, verdict_row
from edge_qc.plant.recorder.database import wrapped
from edge_qc.plant.recorder.labels import latest_labels
from edge_qc.plant.recorder.tables import event, state_change, station, verdict
from edge_qc.plant.recorder.where import Shifts
from edge_qc.publisher import Kind, Severity, VerdictMessage, read_message
from edge_qc.system.state import State

_ROWS = 30
_EVENTS = 60


class Records:
    """The records of a plant, as a page wants them. Safe from any thread. Every method raises
    RecordError if the database fails."""

    def __init__(self, engine: Engine, shifts: Shifts) -> None:
        self.engine, self.shifts = engine, shifts
        self._thresholds: dict[tuple[int, str], float] = {}

    def sections(self, chosen: Filter, now: datetime) -> Document:
        """``totals``, ``dies``, ``pareto``, ``drift``, ``verdicts`` and ``events`` of the filter's
        period. Raises RecordError."""
        assert chosen.period is not None
        whole = period_of(chosen.period, now, self.shifts)
        period = Period(whole.kind, whole.since, min(whole.until, now))
        with wrapped(self.engine), self.engine.connect() as db:
            return {
                "totals": self._totals(db, chosen, period),
                "dies": dies(db, period, chosen.station),
                "pareto": pareto(db, period, chosen.station, chosen.die),
                "drift": self._drift(db, chosen, period),
                "verdicts": _verdicts(db, chosen, period),
                "events": events(db, period, chosen.station)[:_EVENTS],
            }

    def verdict(
        self, station_name: str, verdict_id: str
    ) -> tuple[VerdictMessage, list[VerdictMessage]] | None:
        """A verdict and the other views of its part; None if it is not recorded."""
        with wrapped(self.engine), self.engine.connect() as db:
            query = select(verdict.c.payload).where(
                verdict.c.verdict_id == verdict_id, *of_station(verdict, station_name)
            )
            found = read_verdicts(db.execute(query).scalars())
            if not found:
                return None
            message = found[0]
            if message.part_id is None:
                return message, []
            near = timedelta(seconds=SAME_PART_S)
            query = (
                select(verdict.c.payload)
                .where(
                    verdict.c.part_id == message.part_id,
                    verdict.c.verdict_id != verdict_id,
                    verdict.c.time.between(message.time - near, message.time + near),
                    *of_station(verdict, station_name),
                )
                .order_by(verdict.c.die, verdict.c.time)
            )
            return message, read_verdicts(db.execute(query).scalars())

    def truth(self, verdict_id: str) -> Document | None:
        """The label that counts, with ``who`` gave it; None if there is none."""
        truths = latest_labels()
        query = select(truths.c.truth, truths.c.labelled_by).where(
            truths.c.verdict_id == verdict_id
        )
        with wrapped(self.engine), self.engine.connect() as db:
            row = db.execute(query).one_or_none()
        return None if row is None else {"label": row.truth, "who": row.labelled_by}

    def thresholds(
        self, db: Connection, pairs: Mapping[tuple[int, str], datetime]
    ) -> dict[tuple[int, str], float | None]:
        """The drift threshold of each bundle and die, from a verdict since the given time."""
        for (bundle_no, die), since in pairs.items():
            if (bundle_no, die) in self._thresholds:
                continue
            query = (
                select(verdict.c.payload)
                .where(
                    verdict.c.bundle_no == bundle_no,
                    func.coalesce(verdict.c.die, "") == die,
                    verdict.c.drift_score.is_not(None),
                    verdict.c.time >= since,
                )
                .order_by(verdict.c.time)
                .limit(1)
            )
            for text in db.execute(query).scalars():
                self._thresholds[bundle_no, die] = json.loads(text)["drift"]["threshold"]
        return {pair: self._thresholds.get(pair) for pair in pairs}

    def _totals(self, db: Connection, chosen: Filter, period: Period) -> Document:
        before = period_before(period, self.shifts)
        of = "views" if chosen.counting == "views" or chosen.die is not None else "parts"
        counts = outcomes(db, period, of, chosen.station, chosen.die)
        if of == "parts" and not counts.all:
            of, counts = "views", outcomes(db, period, "views", chosen.station, chosen.die)
        times = intervals(period)
        return {
            "of": of,
            "all": counts.all,
            **counts._asdict(),
            "before": outcomes(db, before, of, chosen.station, chosen.die)._asdict(),
            "historical": 0,
            "unreadable": 0,
            "unknown": 0,
            "times": times,
            "passing": passing(db, period, of, chosen.station, chosen.die),
            "late": [0] * len(times),
        }

    def _drift(self, db: Connection, chosen: Filter, period: Period) -> Document:
        """As ``figures.drift``, without the worst of each interval, which no tally knows."""
        table, grain_s = grain_of(period)
        times = intervals(period)
        rows = db.execute(
            select(
                station.c.site,
                station.c.name,
                table.c.die,
                table.c.bundle_no,
                table.c.bucket,
                func.sum(table.c.drift_sum),
                func.sum(table.c.drift_n),
            )
            .join(station, station.c.station_id == table.c.station_id)
            .where(*within(table.c.bucket, period), *of_station(table, chosen.station))
            .where(*([] if chosen.die is None else [table.c.die == stored_die(chosen.die)]))
            .where(table.c.drift_n > 0)
            .group_by(
                station.c.site, station.c.name, table.c.die, table.c.bundle_no, table.c.bucket
            )
        ).all()
        pairs: dict[tuple[int, str], datetime] = {}
        for _, _, die, bundle_no, bucket, *_ in rows:
            pairs[bundle_no, die] = min(bucket, pairs.get((bundle_no, die), bucket))
        known = self.thresholds(db, pairs)
        sums: dict[tuple[str, str], Any] = {}
        for site, name, die, bundle_no, bucket, total, n in rows:
            threshold = known[bundle_no, die]
            at = int((bucket.timestamp() - times[0]) // grain_s)
            if not threshold or not 0 <= at < len(times):
                continue
            of_it = sums.setdefault((f"{site}/{name}", die or "-"), np.zeros((2, len(times))))
            of_it[:, at] += total / threshold, int(n)
        charts = []
        for (name, die), (total, n) in sums.items():
            means = np.divide(total, n, out=np.full(len(times), np.nan), where=n > 0)
            charts.append(figures.DriftChart(name, die, means))
        charts.sort(key=lambda one: one.order)
        shown = [one.document() for one in charts[: figures.CHARTS]]
        return {"times": times, "charts": shown, "all": len(charts)}


def events(db: Connection, period: Period, station_name: str | None = None) -> list[Document]:
    """Events and changes of state of a period, the newest first."""
    rows = [
        happened(f"{row.site}/{row.name}", row.time, Severity(row.severity), row.event,
                 row.detail, row.historical)
        for row in db.execute(
            select(event, station.c.site, station.c.name)
            .join(station, station.c.station_id == event.c.station_id)
            .where(*within(event.c.time, period), *of_station(event, station_name))
            .order_by(event.c.time.desc())
            .limit(10 * _EVENTS)
        )
    ]  # fmt: skip
    for row in db.execute(
        select(state_change, station.c.site, station.c.name)
        .join(station, station.c.station_id == state_change.c.station_id)
        .where(*within(state_change.c.observed, period), *of_station(state_change, station_name))
        .order_by(state_change.c.observed.desc())
        .limit(10 * _EVENTS)
    ):
        state = State(row.state)
        severity = severity_of_state(state, row.why)
        name = f"{row.site}/{row.name}"
        rows.append(happened(name, row.observed, severity, row.state, row.why, False, state))
    return sorted(rows, key=lambda one: str(one["time"]), reverse=True)


def _verdicts(db: Connection, chosen: Filter, period: Period) -> list[Document]:
    query = (
        select(verdict.c.payload)
        .where(*within(verdict.c.time, period), *of_station(verdict, chosen.station))
        .order_by(verdict.c.time.desc())
        .limit(_ROWS)
    )
    if chosen.die is not None:
        query = query.where(func.coalesce(verdict.c.die, "") == stored_die(chosen.die))
    if chosen.label is not None:
        query = query.where(verdict.c.label == chosen.label)
    if chosen.refused:
        query = query.where(verdict.c.disposition != "PASS")
    found = read_verdicts(db.execute(query).scalars())
    return [verdict_row(f"{one.site}/{one.station}", one) for one in found]


def read_verdicts(payloads: Iterable[str]) -> list[VerdictMessage]:
    """The messages of stored payloads."""
    return list(_messages(payloads))


def _messages(payloads: Iterable[str]) -> Iterator[VerdictMessage]:
    for payload in payloads:
        try:
            message = read_message(Kind.VERDICT, payload.encode())
        except PublishError:
            # Of another edition's schema: counted, but not shown.
            continue
        assert isinstance(message, VerdictMessage)
        yield message
