"""Times as a person gives them to a command: a day, or a day and a time, UTC where no zone is."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import click


def start_of(text: str | None) -> datetime | None:
    """The moment that is meant; of a day, its beginning. Raises click.UsageError."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text.strip().replace("Z", "+00:00").replace("z", "+00:00"))
    except ValueError as error:
        raise click.UsageError(
            f"{text!r} is no time; write it as 2026-03-01 or 2026-03-01T06:00"
        ) from error
    return time if time.tzinfo is not None else time.replace(tzinfo=timezone.utc)


def end_of(text: str | None) -> datetime | None:
    """As ``start_of``; of a day, its end."""
    time = start_of(text)
    if time is not None and text is not None and len(text.strip()) == len("2026-03-01"):
        return time + timedelta(days=1, microseconds=-1)
    return time
