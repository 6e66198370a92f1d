"""``edge-qc relearn``: relearns references after a camera was mounted again or a lamp changed."""

from __future__ import annotations

from pathlib import Path

import click

from edge_qc.cli.options import config_option


@click.command("relearn")
@click.argument("camera", required=False)
@config_option
def command(camera: str | None, config: Path) -> None:
    """Relearn the reference of CAMERA, or of all cameras, on the running station.

    Process monitoring compares each camera's brightness, sharpness and position with a reference
    from the first good parts; the station is DEGRADED while they differ. If a repair changes the
    picture, relearn: the next good parts make a new reference.
    """
    from edge_qc.errors import EdgeQCError
    from edge_qc.settings import read_settings
    from edge_qc.system.control import connect

    client = connect(read_settings(config).station.state_dir, command="relearn", camera=camera)
    if client is None:
        raise EdgeQCError("no station is running here. Start it and run this command again")
    with client:
        for answer in client.answers():
            if answer.get("final"):
                click.echo(f"relearning: {', '.join(answer['cameras'])}")
