"""``edge-qc tune``: a bundle's bound, costs and mix as sliders, on a page of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_qc.cli.review import labels_option

_FILE = click.Path(path_type=Path)


@click.command("tune", short_help="Move a bundle's bound and costs, and see what changes.")
@click.argument("bundle", type=_FILE)
@click.argument("data", type=_FILE)
@click.option(
    "--part",
    type=click.Choice(["train", "test"]),
    help="The part of labelled images.  [default: all of them]",
)
@labels_option
@click.option(
    "--source", help="Where the parts are from.  [default: their stations, or the folder]"
)
@click.option(
    "--out",
    type=_FILE,
    help="Where saving writes.  [default: BUNDLE's name and the new version, beside it]",
)
@click.option(
    "--sign",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="KEY",
    help="Sign what is saved with this private key ('edge-qc keygen').",
)
@click.option(
    "--public-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Refuse BUNDLE unless this key verifies its signature.",
)
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="By default any free port.")
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
    from edge_qc.errors import UsageError
    from edge_qc.evidence import Labels
    from edge_qc.evidence.serving import LocalServer
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
    name = f"{bundle.resolve().name}-{begun.bundle.manifest.version + 1}"
    site = Tuner(begun, engine, out or bundle.resolve().with_name(name), sign)
    try:
        server = LocalServer(site, port)
    except OSError as error:
        raise UsageError(
            f"port {port} of 127.0.0.1: {error.strerror}. Choose another --port"
        ) from error
    with server:
        click.echo(server.url)
        click.echo("Open it in a browser of this machine; Ctrl-C ends it.", err=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo(err=True)
        finally:
            engine.close()
