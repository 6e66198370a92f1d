"""``edge-qc tune``: a bundle's bound, costs and mix as sliders, on a page of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_qc.cli.local_page import port_option, show
from edge_qc.cli.review import labels_option
from edge_qc_export.commands.options import (
    part_option,
    public_key_option,
    sign_option,
    source_option,
)

_FILE = click.Path(path_type=Path)


@click.command("tune", short_help="Move a bundle's bound and costs, and see what changes.")
@click.argument("bundle", type=_FILE)
@click.argument("data", type=_FILE)
@part_option
@labels_option
@source_option
@click.option(
    "--out",
    type=_FILE,
    help="Where saving writes.  [default: BUNDLE's name and the new version, beside it]",
)
@sign_option
@public_key_option
@port_option
def command(
    bundle: Path,
    data: Path,
    part: Any,
    database: str | None,
    source: str | None,
    out: Path | None,
    sign: Path | None,
    public_key: Path | None,
    port: int,
) -> None:
    """Show on a page what another bound, other costs and another mix of the line would do.

    DATA holds parts that people verified: labelled images as 'train' reads them, or a station's
    evidence folder with its labels. Overkill and escapes follow the sliders, and so do the pictures
    of the parts that change sides. Saving writes what 'edge-qc calibrate' would. The page is served
    on 127.0.0.1 only, until Ctrl-C.
    """
    from edge_qc.cli.review import label_store
    from edge_qc.engine import open_engine
    from edge_qc.evidence import Labels
    from edge_qc_export.packing.signing import read_private_key
    from edge_qc_export.progress import ConsoleReporter
    from edge_qc_export.recalibration import begin
    from edge_qc_export.tuning.site import Tuner

    if sign is not None:
        read_private_key(sign)  # before the work
    with ConsoleReporter() as reporter:
        begun = begin(
            bundle,
            data,
            part=part,
            labels=None if database is None else label_store(Labels(data), database),
            source=source,
            public_key=public_key,
            reporter=reporter,
        )
    engine = open_engine(begun.bundle)
    site = Tuner(begun, engine, out, sign)
    try:
        show(site, port)
    finally:
        engine.close()
