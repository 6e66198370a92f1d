"""Single verdicts, events and gaps as the page lists them: plain values, as JSON.

Pure. ``snapshot`` computes figures over many verdicts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from edge_qc.plant.dashboard.filters import Filter
from edge_qc.plant.dashboard.plant import NAME, PlantState, Station
from edge_qc.publisher import EventMessage, VerdictMessage

WORDS = 300
"""Characters of a station's own words that are shown."""

_ROWS = 30
_GAPS = 30

Document = dict[str, Any]


def verdicts(plant: PlantState, chosen: Filter) -> list[Document]:
    """The newest verdicts that match the filter, by time."""
    source = plant.refused if chosen.refused else plant.verdicts
    wanted = (
        _row(where, message)
        for where, message in reversed(source)
        if chosen.station in (None, where)
        and chosen.die in (None, (message.die or "-")[:NAME])
        and chosen.label in (None, message.label[:NAME])
    )
    # Late verdicts stand at their own time, not on top.
    return sorted(
        itertools.islice(wanted, _ROWS), key=lambda row: (row["time"], row["id"]), reverse=True
    )


def _row(where: str, message: VerdictMessage) -> Document:
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


def events(plant: PlantState, chosen: Filter) -> list[Document]:
    """The newest events of the selected stations, by time."""

    def row(where: str, event: EventMessage) -> Document:
        return {
            "station": where,
            "time": stamp(event.time),
            "severity": event.severity.value,
            "event": event.event[:NAME],
            "detail": event.detail[:WORDS],
            "historical": event.historical,
        }

    wanted = (
        row(where, event)
        for where, event in reversed(plant.events)
        if chosen.station in (None, where)
    )
    return sorted(itertools.islice(wanted, _ROWS), key=lambda event: event["time"], reverse=True)


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


def verdict_in_full(plant: PlantState, station: str, verdict_id: str) -> Document | None:
    """One of the latest verdicts with every field of its message."""
    for where, message in itertools.chain(reversed(plant.refused), reversed(plant.verdicts)):
        if where == station and message.verdict_id == verdict_id:
            document: Document = message.model_dump(mode="json", by_alias=True)
            return document
    return None


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
