"""Questions that list: verdicts, one part, escapes, labels, missing numbers."""

from __future__ import annotations

from pathlib import Path

import click

from edge_qc.cli.query.asking import Question, grouped, question

# Which columns a narrow terminal shows, the one that it always shows first.
_VERDICT_KEYS = (
    "verdict_id",
    "label",
    "time",
    "disposition",
    "station",
    "die",
    "part_id",
    "reason",
)
_ESCAPE_KEYS = ("verdict_id", "truth", "time", "station", "die", "part_id")
_PART_KEYS = ("part_id", "truth", "time", "station", "dies")
_GAP_KEYS = ("epoch", "kind", "first", "last", "station", "missing", "final")
_LABEL_KEYS = ("verdict_id", "truth", "who", "time", "what", "said", "die", "part_id")

_MOST_ROWS = 2**63 - 1
"""What a database can count to."""


@click.command("verdicts")
@question("station", "die", "bundle", "part", "lot", "label", "reason")
@click.option("--not-passed", is_flag=True, help="Only what is not PASS.")
@click.option(
    "--limit",
    type=click.IntRange(1, _MOST_ROWS),
    help="Only the newest N; by default all.",
)
def verdicts(asked: Question, not_passed: bool, limit: int | None) -> None:
    """List single verdicts, with labels that people added later."""
    from edge_qc.plant.recorder import counts, queries

    def none() -> str:
        among = counts.total(asked.engine, asked.where)
        deleted = among - queries.held(asked.engine, asked.where)
        if not deleted:
            return asked.none_of(counts.VIEWS, "did not pass")
        told = f"{grouped(deleted)} of {grouped(among)} verdicts were deleted (--keep-days)"
        if deleted < among:
            return f"{told}, the others passed"
        return f"{told}; edge-qc query yield counts them"

    rows = queries.verdicts(asked.engine, asked.where, not_passed=not_passed, limit=limit)
    asked.write(queries.VERDICT_COLUMNS, rows, _VERDICT_KEYS, none)


@click.command("part")
@click.argument("part_id", metavar="PART")
@question("station")
@click.option(
    "--evidence",
    type=click.Path(path_type=Path, file_okay=False),
    multiple=True,
    help="A station's evidence folder, to name the pictures that are kept; may be repeated.",
)
def part(asked: Question, part_id: str, evidence: tuple[Path, ...]) -> None:
    """Show all of one part: its views, verdicts, labels and pictures.

    A part id that came again is listed once for each time.
    """
    from edge_qc.plant.recorder import dossier

    answer = dossier.of_part(asked.engine, part_id, asked.where, evidence)
    asked.answer(answer, ("die", "label", "disposition", "truth", "time", "part"))


@click.command("escapes")
@question("station", "die", "bundle", "lot")
@click.option(
    "--of",
    type=click.Choice(["views", "parts"]),
    default="views",
    show_default=True,
    help="List views that passed, or whole parts that did.",
)
def escapes(asked: Question, of: str) -> None:
    """List escapes: what passed and was later labelled as a defect."""
    from edge_qc.plant.recorder import counts, truths

    views = truths.escapes(asked.engine, asked.where)
    parts = truths.escaped_parts(asked.engine, asked.where)
    labelled = sum(truths.confusion(asked.engine, asked.where).values())

    def none() -> str:
        among = counts.total(asked.engine, asked.where)
        if not among:
            return asked.none_of(counts.VIEWS, "escaped")
        what = "whole part" if of == counts.PARTS else "view"
        return f"no {what} escaped: {grouped(labelled)} of {grouped(among)} views are labelled"

    if of == counts.PARTS:
        asked.answer(parts, _PART_KEYS, none)
    else:
        asked.answer(views, _ESCAPE_KEYS, none)
    if views.rows or parts.rows:
        click.echo(
            f"escaped: {grouped(len(views.rows))} of {grouped(labelled)} labelled views, "
            f"{grouped(len(parts.rows))} whole parts",
            err=True,
        )


@click.command("labels")
@question("station", "die", "part", "lot")
def labels(asked: Question) -> None:
    """List every label that was given: who, when, and what it changed. --from and --to are times of
    labels."""
    from edge_qc.plant.recorder import truths

    answer = truths.history(asked.engine, asked.where)
    asked.answer(answer, _LABEL_KEYS, lambda: "no label was given")


@click.command("gaps")
@question("station", timed=False)
def gaps(asked: Question) -> None:
    """List missing numbers; final means that the station no longer has them."""
    from edge_qc.plant.recorder import queries

    answer = queries.gaps(asked.engine, asked.where)
    among = queries.streams(asked.engine)
    asked.answer(answer, _GAP_KEYS, lambda: f"no number is missing in {grouped(among)} streams")
