"""The plant's calendar: this shift, day and week, and the ones before. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from edge_qc.plant.dashboard.filters import PERIODS
from edge_qc.plant.recorder.where import Shifts


@dataclass(frozen=True, slots=True)
class Period:
    """From ``since`` on, until before ``until``, in the plant's zone. kind: one of ``PERIODS``."""

    kind: str
    since: datetime
    until: datetime


def period_of(kind: str, moment: datetime, shifts: Shifts) -> Period:
    """The whole shift, day or week that a moment lies in."""
    assert kind in PERIODS
    local = moment.astimezone(shifts.zone)
    if kind == "shift":
        since = _shift_begin(moment, shifts)
        # A shift lasts at most a day; the first later quarter of an hour in another one ends it.
        until = since
        while _shift_begin(until, shifts) == since:
            until += timedelta(minutes=15)
        return Period(kind, since, until.astimezone(shifts.zone))
    day = local.date()
    days = 1
    if kind == "week":
        day, days = day - timedelta(days=day.weekday()), 7
    # By the calendar: a day in which the clocks change has 23 or 25 hours.
    midnight = datetime(day.year, day.month, day.day, tzinfo=shifts.zone)
    return Period(kind, midnight, midnight + timedelta(days=days))


def period_before(one: Period, shifts: Shifts) -> Period:
    """The period that ended when this one began."""
    return period_of(one.kind, one.since - timedelta(minutes=1), shifts)


def _shift_begin(moment: datetime, shifts: Shifts) -> datetime:
    return datetime.fromisoformat(shifts.of(moment)).astimezone(shifts.zone)
