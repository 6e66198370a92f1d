"""A folder of images as a source, and the table that names each image's die and part.

The folder says what is judged: a line of the table whose image is not there is of no account, an
image that the table does not name is a fault. Decoding lives in ``images``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edge_qc.camera.access import require_readable
from edge_qc.camera.images import SUFFIXES, read_image
from edge_qc.camera.sources import BadImage, EndOfStream, Grab, SourceRequest
from edge_qc.errors import CameraError, DataError, SettingsError
from edge_qc.tables import TableFault, read_rows

_LISTED = 10
"""A message names so many faults of a table at most."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """What a table says of one image."""

    die: str
    part_id: str | None


def read_table(file: Path) -> dict[str, TableRow]:
    """Rows by file name of a table with the columns ``filename`` and ``lib``, and ``part`` if the
    line knows it (the challenge's ``win_and_lib.csv`` and ``Y_train.csv`` are such tables).

    Raises SettingsError that names the file and every line at fault.
    """
    faults: list[TableFault] = []
    rows: dict[str, TableRow] = {}
    for line, cells in read_rows(file, ("filename", "lib"), faults, optional=("part",)):
        name, row = cells["filename"], TableRow(cells["lib"], cells.get("part") or None)
        if not name:
            faults.append(TableFault(line, "has no filename"))
        elif rows.setdefault(name, row) != row:
            faults.append(TableFault(line, f"names {name!r} twice, differently"))
    if faults:
        listed = "; ".join(map(str, faults[:_LISTED]))
        more = f"; and {len(faults) - _LISTED} more" if len(faults) > _LISTED else ""
        raise SettingsError(f"camera table {file}: {listed}{more}. Correct the path or the file")
    if not rows:
        raise SettingsError(f"camera table {file}: names no image")
    return rows


def images_in(folder: Path) -> list[Path]:
    """The folder's images by name. Raises SettingsError if there is no folder or no image."""
    try:
        found = sorted(
            file
            for file in folder.iterdir()
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
        )
    except OSError as error:
        raise SettingsError(
            f"camera folder {folder}: {error.strerror or error}. Correct the path"
        ) from error
    if not found:
        raise SettingsError(f"camera folder {folder}: holds no image ({', '.join(SUFFIXES)})")
    return found


class FolderSource:
    """Images of a folder in order of name, each once, or round and round with ``loop``."""

    live = False

    def __init__(self, request: SourceRequest) -> None:
        self._die = request.die
        self._loop = request.loop
        self._table: Mapping[str, TableRow] | None = (
            read_table(request.table) if request.table is not None else None
        )
        self._folder = request.path
        self._files = images_in(self._folder)
        self._next = request.start % len(self._files) if self._loop else request.start

    @staticmethod
    def check(request: SourceRequest) -> None:
        """Refuse a folder or table that is not there, or that this user may not read."""
        require_readable(request.path, request.shown)
        images_in(request.path)
        if request.table is not None:
            read_table(request.table)
        elif request.die is None:
            raise SettingsError(
                f"camera source {request.shown}: give die, or a table that names each image's die"
            )

    def read(self, timeout_s: float) -> Grab | BadImage | None:
        """The next image; ``timeout_s`` is of no account here."""
        if self._next >= len(self._files):
            raise EndOfStream(f"camera folder {self._folder}: all {len(self._files)} images read")
        file = self._files[self._next]
        self._next += 1
        if self._loop:
            self._next %= len(self._files)
        row = TableRow(self._die or "", None)
        if self._table is not None:
            if file.name not in self._table:
                detail = f"image {file.name}: the camera's table does not name it"
                return BadImage(detail, self._die, None, file.name)
            row = self._table[file.name]
        if not row.die:
            detail = f"image {file.name}: the camera's table names no die for it"
            return BadImage(detail, None, row.part_id, file.name)
        try:
            pixels = read_image(file)
        except DataError as error:
            if not os.path.isdir(self._folder):
                raise CameraError(f"camera folder {self._folder}: went away ({error})") from error
            return BadImage(str(error), row.die, row.part_id, file.name)
        return Grab(
            pixels,
            row.die,
            row.part_id,
            file.name,
            datetime.now(timezone.utc),
            time.monotonic(),
        )

    def close(self) -> None:
        """Nothing is held."""
