"""``edge-qc accept``: the golden views through an engine on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from edge_qc.cli.options import json_option, threads_option


@click.command("accept")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--engine", default="onnxruntime", show_default=True)
@threads_option
@json_option
def command(bundle: Path, engine: str, threads: int, as_json: bool) -> None:
    """Run the golden views of BUNDLE through an engine and compare with the reference answers.

    Exit status 78 and a table of what differed where the engine is refused.
    """
    import dataclasses
    import json

    from edge_qc.cli.table import print_tree
    from edge_qc.inspection import open_inspection

    inspection = open_inspection(bundle, engine=engine, threads=threads)
    report = dataclasses.asdict(inspection.acceptance)
    inspection.close()
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        print_tree(f"accepted: {bundle}", report)
