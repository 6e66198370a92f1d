"""``edge-qc evaluate``: a run or a bundle against labelled images."""

from __future__ import annotations

from pathlib import Path

import click

_FILE = click.Path(path_type=Path)


@click.command("evaluate", short_help="Measure a run or a bundle on labelled images.")
@click.argument("run", type=_FILE)
@click.argument("data", type=_FILE)
@click.option(
    "--split",
    type=click.Choice(["train", "held-out", "test"]),
    default="test",
    show_default=True,
    help="train: the run's training images. A bundle only has test.",
)
@click.option("--costs", type=_FILE, help="Costs by class name, JSON.  [default: the run's]")
@click.option("--predictions", type=_FILE, help="Also write filename,Label for every image.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    run: Path,
    data: Path,
    split: str,
    costs: Path | None,
    predictions: Path | None,
    as_json: bool,
) -> None:
    """Measure RUN on the images of DATA.

    RUN is a run folder, measured by what its classifier says (it never says Drift), or a bundle,
    measured by the verdicts that a station would publish.
    """
    import json

    from edge_qc_export.figures.score_table import print_scores
    from edge_qc_export.measurement import measure
    from edge_qc_export.progress import ConsoleReporter

    with ConsoleReporter() as reporter:
        measured = measure(run, data, split, costs, reporter)
    if predictions is not None:
        measured.write_predictions(predictions)
    if as_json:
        click.echo(json.dumps(measured.as_json(), indent=1))
    else:
        print_scores(measured.scores)
        for note in measured.notes:
            click.echo(note, err=True)
