"""Parses times on the command line: a day, or a day and a time; UTC without a zone."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import click


def start_of(text: str | None) -> datetime | None:
    """The given moment; for a day, its beginning. Raises click.UsageError."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text.strip().replace("Z", "+00:00").replace("z", "+00:00"))
    except ValueError as error:
        raise click.UsageError(
            f"{text!r} is not a time; write it as 2026-03-01 or 2026-03-01T06:00"
        ) from error
    return time if time.tzinfo is not None else time.replace(tzinfo=timezone.utc)


def end_of(text: str | None) -> datetime | None:
    """As ``start_of``; for a day, its end."""
    time = start_of(text)
    if time is not None and text is not None and len(text.strip()) == len("2026-03-01"):
        return time + timedelta(days=1, microseconds=-1)
    return time
