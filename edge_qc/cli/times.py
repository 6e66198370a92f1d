"""Times as a person gives them to a command, and the zone that they are meant in."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any

import click

_DAY = len("2026-03-01")
_FIRST_YEAR, _LAST_YEAR = 2, 9998
"""Python's calendar, less a year on either side: a day more or another zone must not leave it."""


class Zone(click.ParamType[tzinfo]):
    """A time zone by its name, such as Europe/Paris."""

    name = "zone"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tzinfo:
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        if isinstance(value, tzinfo):
            return value
        # Known also where the machine has no table of zones.
        if value == "UTC":
            return timezone.utc
        try:
            return ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self.fail(
                f"{value!r}: this machine does not know that time zone. Write it as Europe/Paris",
                param,
                ctx,
            )


def start_of(text: str | None, zone: tzinfo = timezone.utc) -> datetime | None:
    """The moment that is meant; for a day, its beginning. zone: of a time without an offset; of an
    hour that comes twice there, the first. Raises click.UsageError."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text.strip().replace("Z", "+00:00").replace("z", "+00:00"))
    except ValueError as error:
        raise click.UsageError(
            f"{text!r} is no time; write it as 2026-03-01 or 2026-03-01T06:00"
        ) from error
    if not _FIRST_YEAR <= time.year <= _LAST_YEAR:
        raise click.UsageError(
            f"{text!r}: wanted a year from {_FIRST_YEAR} to {_LAST_YEAR}; without a bound, leave "
            "the option out"
        )
    return time if time.tzinfo is not None else time.replace(tzinfo=zone)


def end_of(text: str | None, zone: tzinfo = timezone.utc) -> datetime | None:
    """As ``start_of``; for a day, its last moment; of an hour that comes twice, the second."""
    time = until_of(text, zone)
    if time is None or text is None or len(text.strip()) != _DAY:
        return time
    return (time.astimezone(timezone.utc) - timedelta(microseconds=1)).astimezone(zone)


def until_of(text: str | None, zone: tzinfo = timezone.utc) -> datetime | None:
    """As ``end_of``, but the first moment that is not meant any more; for a day, the next one's
    beginning."""
    time = start_of(text, zone)
    if time is None or text is None:
        return None
    if len(text.strip()) == _DAY:
        # By the calendar: a day in which the clocks change has 23 or 25 hours.
        return time + timedelta(days=1)
    return time.replace(fold=1)
