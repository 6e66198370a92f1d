"""One part on its way through a station once, with all its views.

A part id may come again: after a rework, from a counter that was set back, at another station.
Each time is a part of its own. The station's own part verdicts name their views; a view that none
of them names belongs to the part of its id that was there within a minute, or is one of its own.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from edge_qc.plant.recorder.tables import part, station, verdict
from edge_qc.plant.recorder.where import Span, Where, of_station, within

TOGETHER = timedelta(seconds=60)
"""Views of one part id within this time are of one part, where no part verdict says otherwise."""

_NEAR = timedelta(hours=1)
"""How far apart the views of one part and its verdict can be at most."""


@dataclass(frozen=True, slots=True)
class View:
    """One verdict of a part. die: None if its frame named none."""

    verdict_id: str
    die: str | None
    time: datetime
    label: str
    disposition: str


@dataclass(slots=True)
class Part:
    """station: ``site/name``. label, disposition: of its part verdict; None if there was none.
    first, last: when its views were taken, or when its verdict was given if no view is recorded."""

    part_id: str
    station: str
    first: datetime
    last: datetime
    label: str | None = None
    disposition: str | None = None
    complete: bool | None = None
    views: list[View] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether the line let it go on as good."""
        if self.disposition is not None:
            return self.disposition == "PASS"
        return bool(self.views) and all(view.disposition == "PASS" for view in self.views)

    def take(self, view: View) -> None:
        """Add a view."""
        self.first = min(self.first, view.time) if self.views else view.time
        self.last = max(self.last, view.time) if self.views else view.time
        self.views.append(view)

    def apart(self, view: View) -> timedelta:
        """How long before or after its own views this one was taken."""
        return max(self.first - view.time, view.time - self.last, timedelta())


def parts_of(db: Connection, part_id: str, where: Where | None = None) -> list[Part]:
    """Each time that a part of this id came, oldest first. where: of whose views at least one must
    be meant; only its station and times are heeded."""
    where = where or Where()
    # An id may come thousands of times, from a counter that is set back each shift.
    near = Span(where.since and where.since - _NEAR, where.until and where.until + _NEAR)
    of_id = [station.c.station_id.in_(select(station.c.station_id).where(*of_station(where)))]
    views: dict[int, dict[str, View]] = defaultdict(dict)
    names: dict[int, str] = {
        row.station_id: f"{row.site}/{row.name}" for row in db.execute(select(station))
    }
    for row in db.execute(
        select(
            verdict.c.verdict_id, verdict.c.station_id, verdict.c.die, verdict.c.time,
            verdict.c.label, verdict.c.disposition,
        )
        .join(station, station.c.station_id == verdict.c.station_id)
        .where(verdict.c.part_id == part_id, *of_id, *within(verdict.c.time, near))
        .order_by(verdict.c.time)
    ):  # fmt: skip
        views[row.station_id][row.verdict_id] = View(
            row.verdict_id, row.die, row.time, row.label, row.disposition
        )
    found: dict[int, list[Part]] = defaultdict(list)
    for row in db.execute(
        select(part)
        .join(station, station.c.station_id == part.c.station_id)
        .where(part.c.part_id == part_id, *of_id, *within(part.c.time, near))
        .order_by(part.c.time)
    ):
        one = Part(
            part_id, names[row.station_id], row.time, row.time, row.label, row.disposition,
            row.complete,
        )  # fmt: skip
        for verdict_id in json.loads(row.payload).get("verdict_ids", ()):
            view = views[row.station_id].pop(verdict_id, None)
            if view is not None:
                one.take(view)
        found[row.station_id].append(one)
    for number, left in views.items():
        _add(found[number], left.values(), part_id, names[number])
    every = [one for parts in found.values() for one in parts if _is_meant(one, where)]
    return sorted(every, key=lambda one: one.first)


def _add(parts: list[Part], views: Iterable[View], part_id: str, station_name: str) -> None:
    """Add views, oldest first, that no part verdict names."""
    for view in views:
        near = min(parts, key=lambda one: one.apart(view), default=None)
        if near is None or near.apart(view) > TOGETHER:
            near = Part(part_id, station_name, view.time, view.time)
            parts.append(near)
        near.take(view)


def _is_meant(one: Part, where: Where) -> bool:
    return (where.since is None or one.last >= where.since) and (
        where.until is None or one.first < where.until
    )
