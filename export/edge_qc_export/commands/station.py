"""Where ``edge-qc export`` has the new bundle built and accepted: on a station, or on this
machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


def ask_station(target: str, station_command: str) -> None:
    """Refuse a station that cannot be reached or has no edge-qc, before the work. Raises UsageError
    and DeviceError."""
    from edge_qc_export.release.remote import require_station

    require_station(target, command=station_command, say=_say)


def prove_where_asked(
    bundle: Path, target: str | None, station_command: str, engine: str | None
) -> dict[str, Any] | None:
    """The acceptance report of the named station or of this machine; None if neither is asked.
    Raises EdgeQCError if the bundle is refused; where the station cannot be asked, or cannot build,
    the message says what can still be done with the bundle."""
    if target is not None:
        from edge_qc.errors import DeviceError
        from edge_qc_export.release.remote import release_on

        chosen = engine or "tensorrt"
        try:
            return release_on(
                bundle, target, engine=chosen, command=station_command, say=_say
            ).report
        except DeviceError as error:
            raise type(error)(
                f"{error}\nThe bundle {bundle} is whole. Copy that folder to the station, and run "
                f"'edge-qc build BUNDLE --engine {chosen}' there"
            ) from error
    if engine is not None:
        from edge_qc.cli.device import drawn_progress
        from edge_qc.engine import DeviceOptions
        from edge_qc.inspection.commissioning import commission

        with drawn_progress() as progress:
            result = commission(bundle, engine=engine, device=DeviceOptions(progress=progress))
        if result.refusal is not None:
            raise result.refusal
        if engine == "tensorrt":
            click.echo("the plan serves this machine's GPU and TensorRT alone", err=True)
        return dict(result.document)
    return None


def _say(line: str) -> None:
    click.echo(line, err=True)
