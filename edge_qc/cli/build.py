"""``edge-qc build``: the TensorRT plan of a bundle, made on the device that will run it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_qc.cli.device import commissioned, commissioning_options, show


@click.command("build")
@commissioning_options
@click.option("--force", is_flag=True, help="Build even where a plan serves.")
@click.option(
    "--workspace-mb",
    type=click.IntRange(16, 65_536),
    help="Device memory that the build may try tactics with.",
)
@click.option(
    "--optimization-level",
    type=click.IntRange(0, 5),
    help="0 builds quickly, 5 slowly for a little more speed.",
)
def command(bundle: Path | None, as_json: bool, force: bool, **options: Any) -> None:
    """Build the TensorRT plan of BUNDLE, or of the station's bundle, and accept it here.

    The plan serves this GPU and this TensorRT alone; it is kept beside its fingerprint, and the
    daemon finds it there. Takes minutes, up to tens of them. Then the golden views run, as with
    'edge-qc accept'. Run it as the station's user: sudo -u edge-qc edge-qc build
    """
    result = commissioned(
        bundle,
        build="always" if force else "if-needed",
        default_engine="tensorrt",
        **options,
    )
    if result.refusal is None and str(result.document["engine"]).startswith("tensorrt"):
        click.echo("the plan serves this machine's GPU and TensorRT alone", err=True)
    show(result, as_json)
