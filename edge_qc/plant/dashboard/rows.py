"""Single verdicts, events and gaps as the page lists them: plain values, as JSON.

Pure. ``snapshot`` computes figures over many verdicts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from edge_qc.plant.dashboard.advice import for_event
from edge_qc.plant.dashboard.filters import Filter
from edge_qc.plant.dashboard.plant import NAME, PlantState
from edge_qc.plant.dashboard.station import Now, Station, utc_s
from edge_qc.publisher import Severity, VerdictMessage
from edge_qc.system.state import State

WORDS = 300
"""Characters of a station's own words that are shown."""

SAME_PART_S = 600.0
"""Views of one part are never so far apart; the same id later is another part."""

_ROWS = 30
_GAPS = 30

Document = dict[str, Any]


def verdicts(plant: PlantState, chosen: Filter) -> list[Document]:
    """The newest verdicts that match the filter, by time."""
    source = plant.refused if chosen.refused else plant.verdicts
    wanted = (
        verdict_row(where, message)
        for where, message in reversed(source)
        if chosen.station in (None, where)
        and chosen.die in (None, (message.die or "-")[:NAME])
        and chosen.label in (None, message.label[:NAME])
    )
    # Late verdicts stand at their own time, not on top.
    return sorted(
        itertools.islice(wanted, _ROWS), key=lambda row: (row["time"], row["id"]), reverse=True
    )


def verdict_row(where: str, message: VerdictMessage) -> Document:
    """A verdict as the list shows it."""
    drift = message.drift
    return {
        "id": message.verdict_id,
        "station": where,
        "time": stamp(message.time),
        "camera": message.camera[:NAME],
        "die": (message.die or "-")[:NAME],
        "part": (message.part_id or message.image or "-")[:NAME],
        "label": message.label[:NAME],
        "disposition": message.disposition.value,
        "reason": message.reason.value,
        "p": None if drift is None else float(f"{drift.p_value:.2g}"),
        "ms": round(sum(message.latency_ms.values()), 1) if message.latency_ms else None,
        "historical": message.historical,
        "late": message.late,
        "detail": message.detail[:WORDS],
    }


def events(plant: PlantState, chosen: Filter, window_s: float, now: Now) -> list[Document]:
    """The events of the selected stations in the last window_s seconds, the newest first."""
    since_s = now.utc.timestamp() - window_s

    wanted = (
        happened(*event)
        for event in reversed(plant.events)
        if (chosen.station in (None, event.station) or not event.station)
        and utc_s(event.time) >= since_s
    )
    return sorted(wanted, key=lambda event: str(event["time"]), reverse=True)


def happened(
    station: str,
    time: datetime,
    severity: Severity,
    event: str,
    detail: str,
    historical: bool = False,
    state: State | None = None,
) -> Document:
    """An event, or a change of state, with what to do next about it."""
    return {
        "station": station,
        "time": stamp(time),
        "severity": severity.value,
        "event": event[:NAME],
        "detail": detail[:WORDS],
        "historical": historical,
        "state": None if state is None else state.value,
        "next": "" if severity is Severity.INFO else for_event(event),
    }


def gaps(stations: Iterable[Station]) -> list[Document]:
    """The missing numbers, and whether the station still has them."""
    found = [
        {
            "station": station.name,
            "kind": kind.value,
            "epoch": gap.epoch[:NAME],
            "first": gap.first,
            "last": gap.last,
            "count": gap.count,
            "final": any(
                (of, epoch) == (kind, gap.epoch) and after < gap.first and gap.last < seq
                for of, epoch, after, seq in station.gone
            ),
        }
        for station in stations
        for kind, numbers in station.numbers.items()
        for gap in numbers.gaps()
    ]
    return found[-_GAPS:]


def verdict_in_full(plant: PlantState, station: str, verdict_id: str) -> VerdictMessage | None:
    """One of the latest verdicts."""
    for where, message in itertools.chain(reversed(plant.refused), reversed(plant.verdicts)):
        if where == station and message.verdict_id == verdict_id:
            return message
    return None


def other_views(plant: PlantState, station: str, message: VerdictMessage) -> list[VerdictMessage]:
    """The latest verdicts on the same part, by die. A part id that comes again later is another
    part."""
    found: dict[str, VerdictMessage] = {}
    for where, other in itertools.chain(plant.refused, plant.verdicts):
        if (
            where == station
            and message.part_id is not None
            and other.part_id == message.part_id
            and other.verdict_id != message.verdict_id
            and abs(utc_s(other.time) - utc_s(message.time)) < SAME_PART_S
        ):
            found[other.verdict_id] = other
    return sorted(found.values(), key=lambda view: (view.die or "", view.time))


def stamp(time: datetime | None) -> str:
    """RFC 3339, or empty."""
    if time is None:
        return ""
    if time.tzinfo is None:
        time = time.replace(tzinfo=timezone.utc)
    # A time at the ends of the calendar has no other zone.
    if not 1 < time.year < 9999:
        return ""
    return time.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
