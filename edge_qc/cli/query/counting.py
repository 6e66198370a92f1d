"""Questions that count: yield and quality."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_qc.cli.query.asking import Question, question
from edge_qc.cli.shifts import shifts_of

if TYPE_CHECKING:
    from edge_qc.bundle.costs import Costs


@click.command("yield")
@question("station", "die", "bundle", "label", "reason", "part", "lot")
@click.option(
    "--of",
    type=click.Choice(["views", "parts"]),
    default="views",
    show_default=True,
    help="Count views, or whole parts.",
)
@click.option(
    "--by",
    metavar="NAME,…",
    help="Of shift, day, hour, station, die, class, bundle, reason; parts have no die, bundle and "
    "reason.  [default: shift,die; of parts: shift,station]",
)
@click.option(
    "--shifts", default="06:00,14:00,22:00", show_default=True, help="When a shift begins."
)
def yields(asked: Question, of: str, by: str | None, shifts: str) -> None:
    """Count what passed, was rejected, needs review, or was not judged."""
    from edge_qc.plant.recorder import counts

    if by is None:
        by = "shift,die" if of == counts.VIEWS else "shift,station"
    names = [name.strip() for name in by.split(",") if name.strip()]
    if set(names) - set(counts.DIMENSIONS) or not names:
        raise click.UsageError(f"--by {by!r}: wanted some of {', '.join(counts.DIMENSIONS)}")
    answer = counts.yields(asked.engine, asked.where, names, shifts_of(shifts, asked.zone), of)
    asked.answer(answer, names, lambda: asked.none_of(of, "match"))


@click.command("quality")
@question("station", "die", "bundle", "lot")
@click.option(
    "--costs",
    "costs_file",
    type=click.Path(path_type=Path),
    help="A cost matrix as JSON, a bundle, or its manifest; by default the one stored by edge-qc "
    "record --bundle.",
)
def quality(asked: Question, costs_file: Path | None) -> None:
    """Compute cost, PWA and its skill, escapes and overkill from labelled verdicts.

    Shares have their exact 95 % interval; of fewer than 20 labels there is nothing else. The last
    column weights the labelled verdicts of each label by how often the station gave it; correct if
    they were picked at random.
    """
    from edge_qc.plant.recorder import counts, queries, truths
    from edge_qc.plant.recorder.quality import assessed
    from edge_qc.plant.recorder.where import Answer

    costs = _costs(costs_file, queries.kept_costs(asked.engine))
    said = counts.said(asked.engine, asked.where)
    found, warnings = assessed(
        truths.confusion(asked.engine, asked.where),
        dict(said.rows),
        costs,
        truths.bad_parts(asked.engine, asked.where),
    )
    rows = [
        (one.name, one.value, one.count, one.of, one.low, one.high, one.weighted) for one in found
    ]
    columns = ("figure", "labelled_sample", "count", "of", "low", "high", "weighted_to_production")
    asked.answer(Answer(columns, rows, said.counted), columns)
    for warning in warnings:
        click.echo(f"edge-qc: {warning}", err=True)


def _costs(file: Path | None, kept: str | None) -> Costs:
    import json

    from edge_qc.bundle.costs import costs_for, costs_from_document, read_costs
    from edge_qc.parts import DRIFT

    if file is None and kept is None:
        raise click.UsageError("give --costs, or start edge-qc record with --bundle")
    if file is None:
        return costs_from_document(json.loads(str(kept)))
    found = read_costs(file)
    # A training's file need not name drift: it has the cost there that the bundle got for it.
    return costs_for(found, [name for name in found if name != DRIFT])
