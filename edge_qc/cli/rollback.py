"""``edge-qc rollback``: returns to the previous bundle."""

from __future__ import annotations

from pathlib import Path

import click

from edge_qc.cli.options import config_option, json_option


@click.command("rollback")
@config_option
@json_option
def command(config: Path, as_json: bool) -> None:
    """Return to the bundle that this station had before its last install.

    It is accepted again first; a running station changes over between two triggers. Run it again to
    return to the newer bundle. Run it as the station's user: sudo -u edge-qc edge-qc rollback
    """
    from edge_qc.cli.device import drawn_progress
    from edge_qc.cli.install import as_document, tell, when
    from edge_qc.settings import read_settings
    from edge_qc.station.installation import roll_back, shown

    with drawn_progress() as progress:
        done = roll_back(read_settings(config), progress=progress, listener=tell)
    click.echo(as_document(done) if as_json else f"{shown(done.slot)} {when(done.live)}")
