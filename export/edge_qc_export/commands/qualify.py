"""``edge-qc qualify``: what a bundle does to labelled parts, for an auditor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_qc_export.commands.options import sign_option

_FILE = click.Path(path_type=Path)


@click.command("qualify", short_help="Escapes and overkill of a bundle, as a signed page.")
@click.argument("bundle", type=_FILE)
@click.argument("data", type=_FILE)
@click.option("--out", type=_FILE, help="Folder.  [default: qualification, beside the bundle]")
@click.option(
    "--split",
    "part",
    type=click.Choice(["test", "train"]),
    help="Images to judge.  [default: the test part if it has labels, else train]",
)
@sign_option
@click.option("--json", "as_json", is_flag=True, help="Print the document.")
def command(
    bundle: Path, data: Path, out: Path | None, part: Any, sign: Path | None, as_json: bool
) -> None:
    """Judge the labelled photographs of DATA with BUNDLE, exactly as a station does.

    Writes one HTML page and one JSON document: escapes and overkill with exact intervals, by class
    and die; how many parts a tighter statement takes; every wrong part with its heat map; and how
    often a verdict flips when a photograph is disturbed. DATA should hold parts that the model did
    not learn from.
    """
    import json

    from edge_qc_export.progress import ConsoleReporter
    from edge_qc_export.qualification import qualify

    folder = bundle.resolve().parent / "qualification" if out is None else out
    with ConsoleReporter() as reporter:
        done = qualify(bundle, data, folder, part=part, key_file=sign, reporter=reporter)
    if as_json:
        click.echo(json.dumps(done.document, indent=1, ensure_ascii=False))
        return
    click.echo(f"The bundle {done.sentence}.")
    click.echo(done.page)
