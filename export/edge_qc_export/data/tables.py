"""Tables of pictures in, by the station's own reader (``edge_qc.tables``).

Faults are collected with file and line, to report all at once. What the tables mean is
``dataset``'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_qc.errors import DataError
from edge_qc.tables import TableFault, read_rows
from edge_qc_export.whole_file import readable

_LISTED = 200
"""A message does not grow beyond so many faults: a wrong die table puts one in every row."""

Lines = dict[str, tuple[int, str]]
"""Line number and value by filename."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault to correct before the set can be used. line 0: no line."""

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
    listed = readable(listed)  # a name at fault may be one that no terminal can show
    raise DataError(
        f"data {root}: {len(faults)} "
        f"{'fault' if len(faults) == 1 else 'faults'}:\n{listed}\nCorrect the tables and images "
        "named above, or remove their rows, and try again"
    )


def read_table(
    file: Path,
    columns: Sequence[str],
    faults: list[Fault],
    optional: Sequence[str] = (),
    *,
    rest: bool = False,
) -> list[tuple[int, dict[str, str]]]:
    """The rows of a table with their line numbers; see ``edge_qc.tables.read_rows``."""
    found: list[TableFault] = []
    rows = read_rows(file, columns, found, optional, rest=rest)
    faults.extend(Fault(file, fault.line, fault.text) for fault in found)
    return rows


def read_pictures(
    file: Path,
    columns: Sequence[str],
    faults: list[Fault],
    optional: Sequence[str] = (),
    *,
    rest: bool = False,
) -> list[tuple[int, dict[str, str]]]:
    """As ``read_table``, of a table with a row for each ``filename``; one named twice is a fault,
    and its first row counts."""
    rows = []
    first: dict[str, int] = {}
    for line, row in read_table(file, ["filename", *columns], faults, optional, rest=rest):
        name = row["filename"]
        if name in first:
            faults.append(Fault(file, line, f"{name} is named twice, first in line {first[name]}"))
        else:
            first[name] = line
            rows.append((line, row))
    return rows


def read_lookup(file: Path, column: str, faults: list[Fault]) -> Lines:
    """One column of a table by ``filename``; a filename named twice is a fault."""
    rows = read_pictures(file, [column], faults)
    return {row["filename"]: (line, row[column]) for line, row in rows}
