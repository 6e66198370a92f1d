"""``edge-qc calibrate``: new thresholds for a bundle, from parts that people verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_qc.cli.options import Share, json_option
from edge_qc.cli.review import labels_option
from edge_qc_export.commands.options import (
    part_option,
    public_key_option,
    sign_option,
    source_option,
)

_FILE = click.Path(path_type=Path)


@click.command("calibrate", short_help="New thresholds for a bundle, from verified parts.")
@click.argument("bundle", type=_FILE)
@click.option(
    "--with",
    "data",
    type=_FILE,
    required=True,
    metavar="DATA",
    help="Labelled images as 'train' reads them, or a station's evidence folder with its labels.",
)
@click.option("--out", type=_FILE, help="Default: BUNDLE's name and the new version, beside it.")
@part_option
@labels_option
@source_option
@click.option(
    "--max-escape",
    type=Share(),
    help="At most this share of bad parts may pass the gate.  [default: as BUNDLE was made]",
)
@click.option("--confidence", type=Share(), help="How sure that must be.  [default: as BUNDLE]")
@click.option(
    "--mix", metavar="GOOD=0.95,…", help="The line's shares of the labels.  [default: as BUNDLE]"
)
@click.option(
    "--version",
    "number",
    type=click.IntRange(1),
    help="Must grow from bundle to bundle.  [default: BUNDLE's and 1]",
)
@sign_option
@public_key_option
@json_option
def command(
    bundle: Path,
    data: Path,
    out: Path | None,
    part: Any,
    database: str | None,
    source: str | None,
    max_escape: float | None,
    confidence: float | None,
    mix: str | None,
    number: int | None,
    sign: Path | None,
    public_key: Path | None,
    as_json: bool,
) -> None:
    """Write a new version of BUNDLE with the same network and new thresholds, from the parts that
    it was made with and those in DATA, which people verified.

    GOOD parts say what GOOD looks like at the station. Every bad part, old and new, is held to the
    bound. Where the network itself no longer fits the parts, nothing is written.
    """
    import json

    from edge_qc.bundle.verification import open_bundle
    from edge_qc.cli.review import label_store
    from edge_qc.evidence import Labels
    from edge_qc_export.gate.mix import line_mix, read_mix
    from edge_qc_export.progress import ConsoleReporter
    from edge_qc_export.recalibration import calibrate
    from edge_qc_export.recalibration.telling import document_of, lines_of

    manifest = open_bundle(bundle, public_key).manifest
    name = f"{bundle.resolve().name}-{number or manifest.version + 1}"
    shares = None
    if mix is not None and manifest.gate is not None:
        shares = line_mix(read_mix(mix), manifest.gate.learned, manifest.drift.prior)
    with ConsoleReporter() as reporter:
        written = calibrate(
            bundle,
            data,
            bundle.resolve().with_name(name) if out is None else out,
            part=part,
            labels=None if database is None else label_store(Labels(data), database),
            source=source,
            public_key=public_key,
            max_escape=max_escape,
            confidence=confidence,
            mix=shares,
            version=number,
            sign=sign,
            reporter=reporter,
        )
    answer = document_of(written)
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join(lines_of(answer)))
