"""Tables of pictures: one CSV reader for the station and the workstation.

``;`` or ``,``, UTF-8 with or without a byte order mark, columns found by name in any case. What the
columns mean is the reader's business: ``camera.files`` and the workstation's ``data``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_NO_END = "a quote before it may have no end"


@dataclass(frozen=True, slots=True)
class TableFault:
    """What is wrong in a line of a table, counted from 1 for the header; line 0: in all of it."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


def read_rows(
    file: Path,
    columns: Sequence[str],
    faults: list[TableFault],
    optional: Sequence[str] = (),
    *,
    rest: bool = False,
) -> list[tuple[int, dict[str, str]]]:
    """The rows of a table with their line numbers, cells without the blanks around them.

    columns: those that the table must have; optional: those that a row holds too where the table
    has them. Others, such as the challenge's unnamed index, are left aside; with ``rest`` a row
    holds those with a name too, by the name as it is written. Blank lines are skipped. Faults are
    appended, and their rows left out.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        faults.append(TableFault(0, f"cannot be read ({error.strerror})"))
        return []
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        faults.append(TableFault(line, "is not UTF-8; save it as UTF-8"))
        return []
    head = text.split("\n", 1)[0]
    delimiter = ";" if head.count(";") > head.count(",") else ","
    # A quote after a blank opens a cell too: other tools write `a.png, "bent, twice"`.
    stream = io.StringIO(text, newline="")
    reader = csv.reader(stream, delimiter=delimiter, skipinitialspace=True)
    try:
        names = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        faults.append(TableFault(1, f"cannot be read as CSV ({error}): {_NO_END}"))
        return []
    if reader.line_num > 1:
        faults.append(TableFault(1, f"the header has {reader.line_num} lines, wanted 1: {_NO_END}"))
        return []
    places = _places(names, columns, optional, rest, faults)
    if places is None:
        return []
    rows = []
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(names):
                text = f"has {len(row)} cells, wanted {len(names)}"
                faults.append(TableFault(reader.line_num, text))
                continue
            rows.append((reader.line_num, {name: row[at].strip() for name, at in places.items()}))
    except csv.Error as error:
        faults.append(TableFault(reader.line_num, f"cannot be read as CSV ({error}): {_NO_END}"))
    return rows


def _places(
    names: Sequence[str],
    columns: Sequence[str],
    optional: Sequence[str],
    rest: bool,
    faults: list[TableFault],
) -> dict[str, int] | None:
    """Where in a row each wanted column is; None where the header is at fault."""
    header = [name.casefold() for name in names]
    missing = [name for name in columns if name.casefold() not in header]
    if missing:
        seen = ", ".join(name for name in header if name) or "nothing"
        text = f"has no column {', '.join(missing)}; wanted {', '.join(columns)}, seen {seen}"
        faults.append(TableFault(1, text))
        return None
    wanted = [*columns, *(name for name in optional if name.casefold() in header)]
    places = {name: header.index(name.casefold()) for name in wanted}
    if rest:
        taken = set(places.values())
        for at, name in enumerate(names):
            if at in taken or not name:
                continue
            if name in places:
                faults.append(TableFault(1, f"has the column {name!r} twice; wanted it once"))
                return None
            places[name] = at
    return places
