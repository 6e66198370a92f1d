"""Tables of pictures in: CSV with ``;`` or ``,``, with or without BOM, columns found by name.

What is wrong is collected as faults with file and line, so that all are told at once. What the
tables mean is ``dataset``'s business.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_qc.errors import DataError
from edge_qc.parts import DRIFT

_LISTED = 200
"""A message does not grow beyond so many faults: a wrong die table puts one in every row."""

Lines = dict[str, tuple[int, str]]
"""Line number and value by filename."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that must be mended before the set can be used. line 0: no line."""

    file: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


def raise_faults(root: Path, faults: Sequence[Fault]) -> None:
    """Raise one DataError that lists all faults, if there are any."""
    if not faults:
        return
    listed = "\n".join(f"  {fault}" for fault in faults[:_LISTED])
    if len(faults) > _LISTED:
        listed += f"\n  and {len(faults) - _LISTED} more"
    raise DataError(
        f"data {root}: {len(faults)} {'fault' if len(faults) == 1 else 'faults'}:\n{listed}\n"
        "Mend the tables and pictures named above, or take their rows out, and call again"
    )


def label_from_text(text: str) -> str:
    """A class name as written in a table: ``Drift`` in any case is DRIFT, the rest stays."""
    text = text.strip()
    return DRIFT if text.casefold() == DRIFT.casefold() else text


def read_table(
    file: Path, columns: Sequence[str], faults: list[Fault]
) -> list[tuple[int, dict[str, str]]]:
    """The rows of a table with their line numbers, counted from 1 for the header.

    columns: the wanted ones, in any case; others, such as the challenge's unnamed index, are left
    aside. Blank lines are skipped.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        faults.append(Fault(file, 0, f"cannot be read ({error.strerror})"))
        return []
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        faults.append(Fault(file, line, "is not UTF-8; save it as UTF-8"))
        return []
    head = text.split("\n", 1)[0]
    delimiter = ";" if head.count(";") > head.count(",") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = [name.strip().casefold() for name in next(reader, [])]
    missing = [name for name in columns if name.casefold() not in header]
    if missing:
        faults.append(
            Fault(file, 1, f"has no column {', '.join(missing)}; wanted {', '.join(columns)}")
        )
        return []
    places = {name: header.index(name.casefold()) for name in columns}
    rows = []
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                text = f"has {len(row)} cells, wanted {len(header)}"
                faults.append(Fault(file, reader.line_num, text))
                continue
            rows.append((reader.line_num, {name: row[at].strip() for name, at in places.items()}))
    except csv.Error as error:
        text = f"cannot be read as CSV ({error}): a quote before it may have no end"
        faults.append(Fault(file, reader.line_num, text))
    return rows


def read_lookup(file: Path, column: str, faults: list[Fault]) -> Lines:
    """One column of a table by ``filename``; a filename named twice is a fault."""
    found: Lines = {}
    for line, row in read_table(file, ["filename", column], faults):
        name = row["filename"]
        if name in found:
            faults.append(
                Fault(file, line, f"{name} is named twice, first in line {found[name][0]}")
            )
        else:
            found[name] = line, row[column]
    return found
