"""Whether a picture's file can be used: it is there, this user may reach it, its name can be
written down."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edge_qc_export.data.tables import Fault
from edge_qc_export.whole_file import is_utf8


def file_fault(name: str, file: Path, closed: set[Path]) -> str:
    """What is wrong with a picture's file; empty if nothing is, or if the whole folder is at fault,
    which is then added to ``closed``. name: as tables have it."""
    if not is_utf8(name):
        return f"{name}: the file's name is not UTF-8; rename it"
    try:
        there = file.is_file()
    except PermissionError:
        closed.add(file.parent)
        return ""
    except OSError:  # a name that no file can have: a stray quote makes one of many lines
        there = False
    return "" if there else f"{name} is missing in {file.parent}"


def closed_faults(closed: Iterable[Path]) -> list[Fault]:
    """One fault for each folder that this user may not enter, however many pictures it holds."""
    text = "cannot be read (Permission denied); let this user read the folder and what is in it"
    return [Fault(folder, 0, text) for folder in sorted(closed)]
