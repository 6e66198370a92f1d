"""``edge-qc build``: builds a bundle's TensorRT plan on the device that will run it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_qc.cli.device import commissioned, commissioning_options, show


@click.command("build")
@commissioning_options
@click.option("--force", is_flag=True, help="Build even if a matching plan exists.")
@click.option(
    "--workspace-mb",
    type=click.IntRange(16, 65_536),
    help="Device memory for trying tactics during the build.",
)
@click.option(
    "--optimization-level",
    type=click.IntRange(0, 5),
    help="0 builds fast; 5 builds slowly, for a slightly faster engine.",
)
def command(bundle: Path | None, as_json: bool, force: bool, **options: Any) -> None:
    """Build the TensorRT plan of BUNDLE, or of the station's bundle, and accept it here.

    The plan fits only this GPU and this TensorRT; the daemon finds it beside its fingerprint. A
    build takes minutes, sometimes tens of minutes. Then the golden views run, as in 'edge-qc
    accept'. Run it as the station's user: sudo -u edge-qc edge-qc build
    """
    result = commissioned(
        bundle,
        build="always" if force else "if-needed",
        default_engine="tensorrt",
        **options,
    )
    if result.refusal is None and str(result.document["engine"]).startswith("tensorrt"):
        click.echo("the plan fits only this machine's GPU and TensorRT", err=True)
    show(result, as_json)
