"""When the plant's shifts begin, as a person gives it to a command."""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

import click

from edge_qc.cli.times import Zone

if TYPE_CHECKING:
    from edge_qc.plant.recorder.where import Shifts


def shift_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--shifts and --zone, for ``shifts_of``."""
    for option in (
        click.option(
            "--zone",
            type=Zone(),
            default="UTC",
            show_default=True,
            help="Of shifts and days, such as Europe/Paris.",
        ),
        click.option(
            "--shifts", default="06:00,14:00,22:00", show_default=True, help="When a shift begins."
        ),
    ):
        command = option(command)
    return command


def shifts_of(text: str, zone: tzinfo) -> Shifts:
    """The shifts that ``--shifts`` names. Raises UsageError, click.UsageError."""
    from datetime import time

    from edge_qc.plant.recorder.where import Shifts

    try:
        return Shifts(tuple(time.fromisoformat(start.strip()) for start in text.split(",")), zone)
    except ValueError as error:
        raise click.UsageError(f"--shifts {text!r}: {error}") from error
