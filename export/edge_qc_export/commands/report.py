"""``edge-qc report``: one run as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

_FILE = click.Path(path_type=Path)


@click.command("report", short_help="Draw a run as one HTML page.")
@click.argument("run", type=_FILE)
@click.argument("data", type=_FILE, required=False)
@click.option("--out", type=_FILE, help="Folder.  [default: RUN/report]")
@click.option("--bundle", type=_FILE, help="Also what a station with this bundle would say.")
@click.option(
    "--split",
    type=click.Choice(["test", "held-out", "train"]),
    help="Pictures to measure.  [default: test where its truth is known, else held-out]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    run: Path,
    data: Path | None,
    out: Path | None,
    bundle: Path | None,
    split: str | None,
    as_json: bool,
) -> None:
    """Draw RUN as one HTML page that needs nothing else, and its figures as PNGs.

    DATA is the data set to measure it on; by default the one that it was trained on.
    """
    import json

    from edge_qc_export.progress import ConsoleReporter
    from edge_qc_export.report import write_report

    with ConsoleReporter() as reporter:
        written = write_report(
            run,
            run / "report" if out is None else out,
            data=data,
            bundle=bundle,
            split=split,
            reporter=reporter,
        )
    if as_json:
        click.echo(json.dumps(written.as_json(), indent=1))
    else:
        click.echo(written.page)
