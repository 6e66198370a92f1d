"""``edge-qc label``: records the true class behind a verdict."""

from __future__ import annotations

import click

from edge_qc.cli.options import database_option


@click.command("label")
@database_option
@click.argument("words", nargs=-1, required=True, metavar="[VERDICT_ID] CLASS")
@click.option("--part", help="Label every verdict of this part, instead of VERDICT_ID.")
@click.option("--die", help="With --part: only of this die.")
@click.option("--station", help="With --part: only of this station.")
@click.option("--by", required=True, help="Who found it.")
@click.option("--note", default="", help="How it was found.")
def command(
    database: str,
    words: tuple[str, ...],
    part: str | None,
    die: str | None,
    station: str | None,
    by: str,
    note: str,
) -> None:
    """Record the true class of a part: GOOD, a class of its bundle, or DRIFT.

    Labels are only added; of several for one verdict the last counts. See edge-qc query escapes and
    quality.
    """
    from edge_qc.plant.recorder import open_database, wrapped
    from edge_qc.plant.recorder.labels import add_labels, verdicts_of_part

    if len(words) != (2 if part is None else 1):
        raise click.UsageError("give VERDICT_ID and CLASS, or --part and CLASS")
    engine = open_database(database, create=False)
    with wrapped(engine):
        ids = [words[0]] if part is None else verdicts_of_part(engine, part, die=die, name=station)
        truth = add_labels(engine, ids, words[-1], by=by, note=note)
    click.echo(f"{len(ids)} verdict{'s' * (len(ids) > 1)} labelled {truth}")
