"""``edge-qc score``: any predictions against the truth."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("score", short_help="Score any predictions against the truth.")
@click.argument("truth", type=click.Path(path_type=Path))
@click.argument("predictions", type=click.Path(path_type=Path))
@click.option(
    "--costs",
    type=click.Path(path_type=Path),
    help="Costs by class name, JSON.  [default: the challenge's pattern]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(truth: Path, predictions: Path, costs: Path | None, as_json: bool) -> None:
    """Score PREDICTIONS.csv against TRUTH.csv.

    Both have the columns filename and Label: class names, or the challenge's integers 0 to 6. A
    submission to the challenge is such a file.
    """
    import json

    from edge_qc_export.figures.labels import costs_of_labels, read_pair
    from edge_qc_export.figures.score_table import print_scores
    from edge_qc_export.figures.scoring import score

    true, said = read_pair(truth, predictions)
    scores = score(true, said, costs_of_labels(true, said, costs))
    if as_json:
        click.echo(json.dumps(scores.as_json(), indent=1))
    else:
        print_scores(scores)
