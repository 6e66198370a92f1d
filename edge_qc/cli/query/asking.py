"""What all questions share: which verdicts are meant, and what an answer comes with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from edge_qc.cli.options import database_option
from edge_qc.cli.rows import table_options, write_table
from edge_qc.cli.times import Zone, start_of, until_of

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from edge_qc.plant.recorder.where import Answer, Span, Where

_Command = Callable[..., None]

zone_option = click.option(
    "--zone",
    type=Zone(),
    default="UTC",
    show_default=True,
    help="Of times without an offset, of shifts and days, and of times shown; such as "
    "Europe/Paris.",
)
_TIMES = (
    click.option(
        "--from",
        "first",
        metavar="TIME",
        help="2026-03-01 or 2026-03-01T06:00, in --zone where it names no offset.",
    ),
    click.option("--to", "last", metavar="TIME", help="Until then; a day counts whole."),
)
_FILTERS = {
    "station": "Only of this station: its name, or SITE/NAME.",
    "die": "Only of this die.",
    "bundle": "Only of the bundle whose id begins with this.",
    "part": "Only of this part.",
    "lot": "Only of this lot.",
    "label": "Only what the station gave this label.",
    "reason": "Only with this reason, such as decided or camera.",
}


@dataclass(frozen=True, slots=True)
class Question:
    """The records, and which verdicts are meant. output: where the answer goes."""

    engine: Engine
    where: Where
    zone: tzinfo
    output: dict[str, Any]

    def answer(
        self,
        answer: Answer,
        keys: Sequence[str],
        nothing: Callable[[], str] | None = None,
    ) -> None:
        """Write an answer. nothing: what an empty one means. Where more was counted than was asked
        for, its rows say so in two more columns, and a line on standard error."""
        columns: Sequence[str] = answer.columns
        rows: Iterable[Sequence[Any]] = answer.rows
        if answer.counted is not None:
            span = answer.counted
            columns = (*columns, "counted_from", "counted_to")
            rows = [(*row, span.since, span.until) for row in answer.rows]
            click.echo(_widened(span, self.zone), err=True)
        self.write(columns, rows, keys, nothing)

    def write(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
        keys: Sequence[str],
        nothing: Callable[[], str] | None = None,
    ) -> None:
        """As ``answer``, of rows that may come one by one."""
        write_table(columns, rows, zone=self.zone, keys=keys, nothing=nothing, **self.output)

    def none_of(self, of: str, matching: str) -> str:
        """An empty answer in words: of how many ``of`` (views or parts) none is ``matching``, or
        that there were none at all."""
        from edge_qc.plant.recorder import counts, names

        among = counts.total(self.engine, self.where, of)
        if among:
            return f"0 of {grouped(among)} {of} {matching}"
        return f"no {of} match; {names.recorded_span(self.engine, self.zone)}"


def question(
    *filters: str, timed: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A question's options: the database, a span of time if it is timed, these filters, the form
    of the answer.
    The command gets one ``Question``, all of whose names are known, and its other options."""

    def wrap(command: _Command) -> _Command:
        @wraps(command)
        def asked(database: str, **keys: Any) -> None:
            from edge_qc.plant.recorder import names, open_database, wrapped
            from edge_qc.plant.recorder.where import Where

            zone = keys.pop("zone")
            first, last = keys.pop("first", None), keys.pop("last", None)
            span = start_of(first, zone), until_of(last, zone)
            where = Where(*span, **{name: keys.pop(name) for name in filters})
            output = {name: keys.pop(name) for name in ("as_json", "csv_file", "parquet_file")}
            engine = open_database(database, create=False)
            with wrapped(engine):
                names.require_known(engine, where)
                command(Question(engine, where, zone, output), **keys)

        options = [database_option, zone_option, *(_TIMES if timed else ())]
        options += [click.option(f"--{name}", help=_FILTERS[name]) for name in filters]
        for option in (table_options, *reversed(options)):
            asked = option(asked)
        return asked

    return wrap


def grouped(number: int) -> str:
    """A number as a person reads it: 4 101."""
    return f"{number:,}".replace(",", " ")


def _widened(span: Span, zone: tzinfo) -> str:
    def told(moment: datetime | None) -> str:
        return "" if moment is None else f" {moment.astimezone(zone).isoformat(sep=' ')}"

    edges = [
        f"{word}{told(moment)}"
        for word, moment in (("from", span.since), ("to", span.until))
        if moment is not None
    ]
    return (
        f"counted {' '.join(edges)}: verdicts of that age were deleted, and their counts are by "
        "quarters of an hour"
    )
