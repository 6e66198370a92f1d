"""``edge-qc relearn``: a camera was mounted again, or a lamp changed."""

from __future__ import annotations

from pathlib import Path

import click

from edge_qc.cli.options import config_option


@click.command("relearn")
@click.argument("camera", required=False)
@config_option
def command(camera: str | None, config: Path) -> None:
    """Have the running station learn anew how the pictures of CAMERA, or of all, look.

    It compares each camera's brightness, sharpness and position with a reference from the first
    good parts, and is DEGRADED while they have changed. After the cause was mended in a way that
    changes the picture, the next good parts make a new reference.
    """
    from edge_qc.errors import EdgeQCError
    from edge_qc.settings import read_settings
    from edge_qc.system.control import connect

    client = connect(read_settings(config).station.state_dir, command="relearn", camera=camera)
    if client is None:
        raise EdgeQCError("no station runs here; start it, and call this again")
    with client:
        for answer in client.answers():
            if answer.get("final"):
                click.echo(f"learns anew: {', '.join(answer['cameras'])}")
