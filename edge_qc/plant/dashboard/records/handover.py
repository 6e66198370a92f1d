"""The handover from one shift to the next, on one page, out of the records.

What the shift made against the one before, why parts did not pass, what happened, and what is still
open. ``headline`` says what is wrong at this moment.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from edge_qc.plant.dashboard.figures import Outcomes
from edge_qc.plant.dashboard.headline import Document
from edge_qc.plant.dashboard.records.counted import outcomes, pareto
from edge_qc.plant.dashboard.records.periods import Period, period_before, period_of
from edge_qc.plant.dashboard.records.recorded import Records, events
from edge_qc.plant.dashboard.rows import stamp
from edge_qc.plant.recorder.database import wrapped
from edge_qc.plant.recorder.states import downtime
from edge_qc.plant.recorder.tables import station
from edge_qc.plant.recorder.where import Where

_REASONS = 8
_EVENTS = 200


def handover(records: Records, now: datetime, *, last: bool) -> Document:
    """Of this shift so far, or of the last one. Raises RecordError."""
    period = period_of("shift", now, records.shifts)
    if last:
        period = period_before(period, records.shifts)
    before = period_before(period, records.shifts)
    period = Period(period.kind, period.since, min(period.until, now))
    with wrapped(records.engine), records.engine.connect() as db:
        names = [
            f"{row.site}/{row.name}"
            for row in db.execute(select(station).order_by(station.c.site, station.c.name))
        ]
        of = "parts" if outcomes(db, period, "parts").all else "views"
        stations = []
        for name in names:
            here = "parts" if outcomes(db, period, "parts", name).all else "views"
            counts = outcomes(db, period, here, name)
            earlier = outcomes(db, before, here, name)
            if counts.all or earlier.all:
                stations.append(_row(name, here, counts, earlier))
        happened = [
            one
            for one in events(db, period)
            if one["severity"] != "info" or one["state"] is not None
        ]
        reasons = {one["label"]: one["count"] for one in pareto(db, before)}
        return {
            "since": stamp(period.since),
            "until": stamp(period.until),
            "last": last,
            "before": {"since": stamp(before.since), "until": stamp(before.until)},
            "all": _row("all stations", of, outcomes(db, period, of), outcomes(db, before, of)),
            "stations": stations,
            "reasons": [
                {
                    "label": one["label"],
                    "count": one["count"],
                    "before": reasons.get(one["label"], 0),
                }
                for one in pareto(db, period)[:_REASONS]
            ],
            "downtime": _downtime(records, period),
            "events": happened[:_EVENTS],
            "more_events": max(0, len(happened) - _EVENTS),
        }


def _downtime(records: Records, period: Period) -> list[Document]:
    """When a station did not judge; ``until`` is empty while that lasts."""
    found = downtime(records.engine, Where(period.since, period.until))
    return [
        {
            "station": row["station"],
            "since": stamp(row["from"]),
            "until": stamp(row["to"]),
            # Of the shift alone.
            "seconds": round(
                (
                    min(row["to"] or period.until, period.until) - max(row["from"], period.since)
                ).total_seconds()
            ),
            "why": row["why"],
            "planned": row["planned"],
        }
        for row in (dict(zip(found.columns, one, strict=True)) for one in found.rows)
    ]


def _row(name: str, of: str, counts: Outcomes, before: Outcomes) -> Document:
    return {"name": name, "of": of, **counts._asdict(), "before": before._asdict()}
