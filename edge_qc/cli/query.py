"""``edge-qc query``: a quality engineer's questions to the records."""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_qc.cli.options import database_option
from edge_qc.cli.rows import table_options, write_table
from edge_qc.cli.times import Zone, end_of, start_of

if TYPE_CHECKING:
    from edge_qc.plant.recorder.quality import Costs
    from edge_qc.plant.recorder.where import Shifts, Where

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
_GAP_KEYS = ("epoch", "kind", "first", "last", "station", "missing", "final")


def _where_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--bundle", help="Only of the bundle whose id begins with this."),
        click.option("--die", help="Only of this die."),
        click.option("--station", help="Only of this station: its name, or SITE/NAME."),
        click.option("--to", "last", metavar="TIME", help="Until then; a day counts whole."),
        click.option(
            "--from",
            "first",
            metavar="TIME",
            help="2026-03-01 or 2026-03-01T06:00, in --zone where it names no offset.",
        ),
        click.option(
            "--zone",
            type=Zone(),
            default="UTC",
            show_default=True,
            help="Of times without an offset, of shifts and days, and of times shown; such as "
            "Europe/Paris.",
        ),
    ):
        command = option(command)
    return command


@click.group("query")
def command() -> None:
    """Query the records: yield, escapes, cost and PWA in production, gaps, single verdicts."""


@command.command("yield")
@database_option
@click.option(
    "--by",
    default="shift,die",
    show_default=True,
    metavar="NAME,…",
    help="Of shift, day, hour, station, die, class, bundle, reason.",
)
@click.option(
    "--shifts", default="06:00,14:00,22:00", show_default=True, help="When a shift begins."
)
@_where_options
@table_options
def yields(
    database: str,
    by: str,
    shifts: str,
    zone: tzinfo,
    first: str | None,
    last: str | None,
    station: str | None,
    die: str | None,
    bundle: str | None,
    **output: Any,
) -> None:
    """Count what passed, was rejected, needs review, or was not judged."""
    from edge_qc.plant.recorder import counts, open_database, wrapped

    names = [name.strip() for name in by.split(",") if name.strip()]
    unknown = sorted(set(names) - set(counts.DIMENSIONS))
    if unknown or not names:
        raise click.UsageError(f"--by {by!r}: wanted some of {', '.join(counts.DIMENSIONS)}")
    engine = open_database(database, create=False)
    with wrapped(engine):
        where = _where(zone, first, last, station, die, bundle)
        answer = counts.yields(engine, where, names, _shifts(shifts, zone))
    write_table(answer.columns, answer.rows, keys=names, **output)


@command.command("verdicts")
@database_option
@click.option("--not-passed", is_flag=True, help="Only what is not PASS.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the newest N; by default all.")
@_where_options
@table_options
def verdicts(
    database: str,
    not_passed: bool,
    limit: int | None,
    zone: tzinfo,
    first: str | None,
    last: str | None,
    station: str | None,
    die: str | None,
    bundle: str | None,
    **output: Any,
) -> None:
    """List single verdicts, with labels that people added later."""
    from edge_qc.plant.recorder import open_database, queries, wrapped

    engine = open_database(database, create=False)
    with wrapped(engine):
        where = _where(zone, first, last, station, die, bundle)
        rows = queries.verdicts(engine, where, not_passed=not_passed, limit=limit)
        write_table(queries.VERDICT_COLUMNS, rows, zone=zone, keys=_VERDICT_KEYS, **output)


@command.command("escapes")
@database_option
@_where_options
@table_options
def escapes(
    database: str,
    zone: tzinfo,
    first: str | None,
    last: str | None,
    station: str | None,
    die: str | None,
    bundle: str | None,
    **output: Any,
) -> None:
    """List escapes: views that passed and were later labelled as a defect."""
    from edge_qc.plant.recorder import open_database, queries, wrapped

    engine = open_database(database, create=False)
    with wrapped(engine):
        answer = queries.escapes(engine, _where(zone, first, last, station, die, bundle))
    write_table(answer.columns, answer.rows, zone=zone, keys=_ESCAPE_KEYS, **output)


@command.command("quality")
@database_option
@click.option(
    "--costs",
    "costs_file",
    type=click.Path(path_type=Path),
    help="A cost matrix as JSON, a bundle, or its manifest; by default the one stored by edge-qc "
    "record --bundle.",
)
@_where_options
@table_options
def quality(
    database: str,
    costs_file: Path | None,
    zone: tzinfo,
    first: str | None,
    last: str | None,
    station: str | None,
    die: str | None,
    bundle: str | None,
    **output: Any,
) -> None:
    """Compute cost, PWA and its skill, escapes and overkill from labelled verdicts.

    The second column weights the labelled verdicts of each label by how often the station gave it;
    correct if they were picked at random.
    """
    from edge_qc.plant.recorder import counts, open_database, quality, queries, wrapped

    engine = open_database(database, create=False)
    with wrapped(engine):
        where = _where(zone, first, last, station, die, bundle)
        costs = _costs(costs_file, queries.kept_costs(engine))
        confusion = queries.labelled(engine, where)
        said = counts.said(engine, where)
    sample = quality.figures(confusion, costs)
    scaled = quality.figures(quality.weighted(confusion, said), costs)
    rows = [(name, value, scaled[name]) for name, value in sample.items()]
    write_table(("figure", "labelled_sample", "weighted_to_production"), rows, **output)


@command.command("gaps")
@database_option
@table_options
def gaps(database: str, **output: Any) -> None:
    """List missing numbers; final means that the station no longer has them."""
    from edge_qc.plant.recorder import open_database, queries, wrapped

    engine = open_database(database, create=False)
    with wrapped(engine):
        answer = queries.gaps(engine)
    write_table(answer.columns, answer.rows, keys=_GAP_KEYS, **output)


def _where(
    zone: tzinfo,
    first: str | None,
    last: str | None,
    station: str | None,
    die: str | None,
    bundle: str | None,
) -> Where:
    from edge_qc.plant.recorder.where import Where

    return Where(start_of(first, zone), end_of(last, zone), station, die, bundle)


def _shifts(text: str, zone: tzinfo) -> Shifts:
    from datetime import time

    from edge_qc.plant.recorder.where import Shifts

    try:
        return Shifts(tuple(time.fromisoformat(start.strip()) for start in text.split(",")), zone)
    except ValueError as error:
        raise click.UsageError(f"--shifts {text!r}: {error}") from error


def _costs(file: Path | None, kept: str | None) -> Costs:
    import json

    from edge_qc.errors import DataError
    from edge_qc.plant.recorder.quality import read_costs

    if file is None and kept is None:
        raise click.UsageError("give --costs, or start edge-qc record with --bundle")
    if file is None:
        return read_costs(json.loads(str(kept)))
    if file.is_dir():
        file /= "manifest.json"
    try:
        return read_costs(json.loads(file.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: {error}") from error
