"""One labelled picture, before it is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Part = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled picture. label is None if the truth is not known, ``DRIFT`` for drift. window is
    empty if the layout has none. table and line: its place. held_out: the set itself holds
    it out from learning. spelling: the label as it was written. session: the day, lot or shift in
    which it was taken; None if that is not known (``sessions``)."""

    filename: str
    file: Path
    die: str
    window: str
    label: str | None
    group: str | None
    table: Path
    line: int
    held_out: bool = False
    spelling: str = ""
    session: str | None = None
