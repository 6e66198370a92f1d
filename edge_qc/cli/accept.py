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

    Prints what machine this is, latencies and the largest differences; keep them with --out. Exit
    status 78 and a table of what differed where the engine is refused. With TensorRT a plan is
    built first where none serves.
    """
    result = commissioned(bundle, build="if-needed", default_engine="onnxruntime", **options)
    show(result, as_json)
