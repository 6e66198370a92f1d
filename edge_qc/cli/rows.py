"""Tables for people and for programs: a terminal's, JSON, CSV, Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click

_AT_A_TIME = 10_000


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
    title: str = "",
) -> None:
    """Write a table to files, otherwise to standard output. CSV and Parquet stream, so that there
    may be more rows than memory holds."""
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
    else:
        _print(columns, rows, title)


def _print(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title or None, title_justify="left")
    for column in columns:
        table.add_column(escape(column))
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007
        table.add_row(*(escape(_shown(value)) for value in row))
    Console(width=None).print(table)
    if not count:
        click.echo("no matching records", err=True)


def _shown(value: Any) -> str:
    from edge_qc.cli.tally import plain

    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.0f}"
    return plain(_text(value))


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
_WHOLE = {"seq", "first", "last", "missing", "verdicts", "passed", "rejected", "review",
          "not_judged", "bundle_version"}  # fmt: skip
_REAL = {"drift_score", "drift_p", "expected_cost", "latency_ms", "yield", "labelled_sample",
         "weighted_to_production"}  # fmt: skip
_TIMES = {"time", "labelled"}
_TRUTHS = {"historical", "final"}


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
