"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

_FILE = click.Path(path_type=Path, dir_okay=False)

THREADS = click.IntRange(1, 256)
"""More than any workstation has cores; a slip of the hand would take all that the system gives."""

SEED = click.IntRange(0, 2**32 - 1)
"""What every generator of random numbers here takes."""

part_option = click.option(
    "--split",
    "part",
    type=click.Choice(["train", "test"]),
    help="Labelled images of this part alone.  [default: all of them]",
)
source_option = click.option(
    "--source", help="Where the parts are from.  [default: their stations, or the folder]"
)
sign_option = click.option(
    "--sign",
    type=_FILE,
    metavar="KEY",
    help="Sign what is written with this private key ('edge-qc keygen').",
)
public_key_option = click.option(
    "--public-key", type=_FILE, help="Refuse BUNDLE unless this key verifies its signature."
)
