"""Tables for people and for programs: a terminal's, JSON, CSV, Parquet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone, tzinfo
from itertools import islice
from pathlib import Path
from typing import Any

import click

_AT_A_TIME = 10_000
_GAP, _EDGES = 2, 2
"""Blanks between two columns of a terminal's table, and at its two edges."""


def table_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--json, --csv and --parquet, for ``write_table``."""
    file = click.Path(path_type=Path, dir_okay=False)
    for option in (
        click.option("--parquet", "parquet_file", type=file, help="Write a Parquet file."),
        click.option("--csv", "csv_file", type=file, help="Write a CSV file."),
        click.option(
            "--json", "as_json", is_flag=True, help="One JSON document on standard output."
        ),
    ):
        command = option(command)
    return command


def write_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    as_json: bool,
    csv_file: Path | None,
    parquet_file: Path | None,
    keys: Sequence[str] = (),
    zone: tzinfo = timezone.utc,
    nothing: Callable[[], str] | None = None,
) -> None:
    """Write a table to files, otherwise to standard output. CSV and Parquet stream, so that there
    may be more rows than memory holds.

    keys: the columns that matter most, in that order; a terminal that is too narrow for all leaves
    others out, and never the first. zone: that of the times that are written; Parquet keeps UTC.
    nothing: what to say on standard error if there are no rows.
    """
    if parquet_file is None:
        rows = ([_local(value, zone) for value in row] for row in rows)
    if sum((as_json, csv_file is not None, parquet_file is not None)) > 1:
        raise click.UsageError("give one of --json, --csv and --parquet")
    if csv_file is not None or parquet_file is not None:
        from edge_qc.errors import RecordError

        try:
            if csv_file is not None:
                count = _write_csv(csv_file, columns, rows)
            else:
                assert parquet_file is not None
                count = _write_parquet(parquet_file, columns, rows)
        except OSError as error:
            raise RecordError(f"{csv_file or parquet_file} cannot be written: {error}") from error
        click.echo(f"{csv_file or parquet_file}: {count} rows", err=True)
    elif as_json:
        import json

        found = [dict(zip(columns, row, strict=True)) for row in rows]
        click.echo(json.dumps(found, default=_text, indent=2))
        count = len(found)
    else:
        count = print_table(columns, rows, keys)
    if count == 0:
        click.echo("no matching records" if nothing is None else nothing(), err=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], keys: Sequence[str]) -> int:
    """Print a table uncut, see ``write_table`` for keys. Returns how many rows there were; a table
    of none is not drawn."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    cells = [[_shown(value) for value in row] for row in rows]
    if not cells:
        return 0
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        # A file or a pipe has no edge.
        console = Console(width=sum(_widths(columns, cells)) + _GAP * len(columns) + _EDGES)
    chosen = _fitting(columns, cells, keys, console.width)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for at in chosen:
        # Where even the first is wider than the terminal it goes on in the next line.
        table.add_column(escape(columns[at]), overflow="fold")
    for row in cells:
        table.add_row(*(escape(row[at]) for at in chosen))
    console.print(table)
    if len(chosen) < len(columns):
        left_out = ", ".join(name for at, name in enumerate(columns) if at not in chosen)
        click.echo(f"left out for want of width, --json has them: {left_out}", err=True)
    return len(cells)


def _fitting(
    columns: Sequence[str], cells: Sequence[Sequence[str]], keys: Sequence[str], width: int
) -> list[int]:
    """Which columns a terminal shows uncut, in their order: as many as fit, by ``keys`` and then
    from the left."""
    widths = _widths(columns, cells)
    by_worth = sorted(
        range(len(columns)),
        key=lambda at: keys.index(columns[at]) if columns[at] in keys else len(keys),
    )
    chosen, left = by_worth[:1], width - _EDGES - sum(widths[at] for at in by_worth[:1])
    for at in by_worth[1:]:
        if widths[at] + _GAP <= left:
            chosen.append(at)
            left -= widths[at] + _GAP
    return sorted(chosen)


def _widths(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    from rich.cells import cell_len

    return [
        max(cell_len(name), *(cell_len(row[at]) for row in cells)) if cells else cell_len(name)
        for at, name in enumerate(columns)
    ]


def _shown(value: Any) -> str:
    from edge_qc.cli.tally import plain

    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.0f}"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return plain(_text(value))


def _local(value: Any, zone: tzinfo) -> Any:
    return value.astimezone(zone) if isinstance(value, datetime) else value


def _text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _write_csv(file: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    import csv

    count = 0
    with file.open("w", newline="", encoding="utf-8") as sink:
        writer = csv.writer(sink)
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_cell(value) for value in row])
            count += 1
    return count


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, (int, float)):
        return value
    text = _text(value)
    # A spreadsheet would run it: OWASP, CSV injection.
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _write_parquet(file: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    from edge_qc.errors import RecordError
    from edge_qc.extras import how_to_install

    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise RecordError(
            f"Parquet needs pyarrow, which is not installed here: {how_to_install('record')}"
        ) from error
    types = {name: _parquet_type(name, pa) for name in columns}
    count, writer, schema = 0, None, None
    try:
        for chunk in _chunks(rows):
            fields = {name: [row[at] for row in chunk] for at, name in enumerate(columns)}
            if writer is None:
                schema = pa.schema([(name, types[name]) for name in columns])
                writer = pq.ParquetWriter(file, schema)
            writer.write_table(pa.table(fields, schema=schema))
            count += len(chunk)
        if writer is None:
            schema = pa.schema([(name, types[name]) for name in columns])
            writer = pq.ParquetWriter(file, schema)
    finally:
        if writer is not None:
            writer.close()
    return count


# By name, so that a file has the same types whatever its rows hold.
_WHOLE = {"seq", "first", "last", "missing", "views", "bad_views", "parts", "incomplete", "passed",
          "rejected", "review", "not_judged", "bundle_version", "part", "count", "of"}  # fmt: skip
_REAL = {"drift_score", "drift_p", "expected_cost", "latency_ms", "yield", "labelled_sample",
         "weighted_to_production", "low", "high", "seconds"}  # fmt: skip
_TIMES = {"time", "labelled", "counted_from", "counted_to", "from", "to", "said_at", "observed",
          "last_sign"}  # fmt: skip
_TRUTHS = {"historical", "final", "judging", "planned"}


def _parquet_type(name: str, pa: Any) -> Any:
    if name in _WHOLE:
        return pa.int64()
    if name in _REAL:
        return pa.float64()
    if name in _TIMES:
        return pa.timestamp("us", tz="UTC")
    return pa.bool_() if name in _TRUTHS else pa.string()


def _chunks(rows: Iterable[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    each = iter(rows)
    while chunk := list(islice(each, _AT_A_TIME)):
        yield chunk
