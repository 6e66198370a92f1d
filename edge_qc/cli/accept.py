"""``edge-qc accept``: the golden views through an engine on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_qc.cli.device import commissioned, commissioning_options, show


@click.command("accept")
@commissioning_options
def command(bundle: Path | None, as_json: bool, **options: Any) -> None:
    """Run the golden views of BUNDLE, or of the station's bundle, through an engine and compare.

    Prints the machine, the latencies and the largest differences; --out stores them. If the engine
    is refused, prints what differed and exits with status 78. With TensorRT, builds a plan first if
    none fits.
    """
    result = commissioned(bundle, build="if-needed", default_engine="onnxruntime", **options)
    show(result, as_json)
