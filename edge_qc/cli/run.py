"""``edge-qc run``: the station's daemon."""

from __future__ import annotations

from pathlib import Path

import click

from edge_qc.cli.options import config_option


@click.command("run")
@config_option
@click.option(
    "--until-end",
    is_flag=True,
    help="Stop once every camera has reached its end (folders and videos that do not loop).",
)
@click.option("--verbose", is_flag=True, help="Log every frame.")
def command(config: Path, until_end: bool, verbose: bool) -> int:
    """Run the station until SIGTERM: grab frames, judge them, publish verdicts.

    Exit status 78 if a file must be corrected, 1 if a device failed and a restart may help.
    """
    import logging
    import os

    from edge_qc.errors import UsageError
    from edge_qc.settings import read_settings
    from edge_qc.station.daemon import run
    from edge_qc.system.owner import other_owner

    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        # The journal stamps lines itself.
        format="%(levelname)s %(name)s: %(message)s"
        if "JOURNAL_STREAM" in os.environ
        else "%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    settings = read_settings(config)
    folder = settings.station.state_dir
    # Root may write there, and the station's user could not change it afterwards.
    if os.geteuid() == 0 and (owner := other_owner(folder)) is not None:
        raise UsageError(
            f"{folder} belongs to {owner}, and you are root. Run the station as its user: sudo -u "
            f"{owner} edge-qc run …"
        )
    return run(settings, until_end=until_end)
