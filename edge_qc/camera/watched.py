"""A folder that other programs put images into, as a source: each new, complete image once.

An image is complete when its size and time of change have stood still for half a second and it
decodes whole; so no partial file is judged, on a network share either, whose writers no kernel
announces. What was delivered is remembered by name, size and time of change in a file of the
station's, so that a restart judges nothing twice; an image that is rewritten is a new one.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from edge_qc.camera.access import require_readable
from edge_qc.camera.files import TableRow, read_table
from edge_qc.camera.images import SUFFIXES, read_image
from edge_qc.camera.sources import BadImage, Grab, SourceRequest
from edge_qc.errors import CameraError, DataError, SettingsError
from edge_qc.system.whole_file import write_whole

log = logging.getLogger(__name__)

_POLL_S = 0.1
_SETTLE_S = 0.5
_GIVEN_UP_S = 10.0
"""An image that has not changed for so long and still does not decode is damaged, not unfinished;
so is one that the table does not name by then."""
_CRASHES = 2
_GONE = 100_000
"""Images that are remembered though they are not there: a share may not be mounted yet."""


@dataclass(slots=True)
class _Seen:
    """One state of a file. since_s: on ``time.monotonic``, when it was first seen like this. due_s:
    when to try it."""

    changed_ns: int
    size: int
    since_s: float
    due_s: float

    @property
    def tried(self) -> bool:
        return self.due_s > self.since_s + _SETTLE_S

    def token(self, name: str) -> str:
        return json.dumps([name, self.size, self.changed_ns])


class WatchedFolderSource:
    """New images of a folder as they are complete, in order of their change; never at its end."""

    live = False

    def __init__(self, request: SourceRequest) -> None:
        self._request = request
        self._folder = request.path
        self._memory = request.memory
        kept = remembered(request.memory) if request.memory is not None else []
        self._given = dict.fromkeys(kept)
        self._files: dict[str, _Seen] = {}
        self._table: dict[str, TableRow] = {}
        self._table_ns = 0

    @staticmethod
    def check(request: SourceRequest) -> None:
        """Refuse a folder or table that is not there or may not be read, and what a watched folder
        cannot do."""
        require_readable(request.path, request.shown)
        if not request.path.is_dir():
            raise SettingsError(
                f"camera source {request.shown}: watch = true wants a folder that is there. Make "
                "it, or correct the path"
            )
        if request.loop or request.trigger is not None:
            raise SettingsError(
                f"camera source {request.shown}: watch = true goes with neither loop nor a "
                "trigger: an image that comes is the trigger"
            )
        if request.table is not None:
            read_table(request.table)
        elif request.die is None:
            raise SettingsError(
                f"camera source {request.shown}: give die, or a table that names each image's die"
            )

    def read(self, timeout_s: float) -> Grab | BadImage | None:
        """The next complete image; None if none came within the time, however many are damaged.
        Raises CameraError if the folder cannot be listed."""
        until_s = time.monotonic() + timeout_s
        while True:
            began_s = time.monotonic()
            for name, seen in self._complete(began_s):
                item = self._item(name, seen)
                if item is not None:
                    self._given[seen.token(name)] = None
                    return replace(item, token=seen.token(name))
                now_s = time.monotonic()
                # At twice its age: many of them must not hold up the others.
                seen.due_s = min(2 * now_s - seen.since_s, seen.since_s + _GIVEN_UP_S)
                if now_s >= until_s:
                    return None
            now_s = time.monotonic()
            if now_s >= until_s:
                return None
            # A large folder takes long to list: at most a tenth of the time goes there.
            time.sleep(min(max(_POLL_S, 9.0 * (now_s - began_s)), until_s - now_s))

    def _complete(self, now_s: float) -> Iterator[tuple[str, _Seen]]:
        """Files that are new and have settled, those that were not tried yet in front, and of
        these the one that changed first."""
        found: dict[str, _Seen] = {}
        there: list[str] = []
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or not entry.name.lower().endswith(SUFFIXES):
                        continue
                    try:
                        status = entry.stat()
                        changed_ns, size = status.st_mtime_ns, status.st_size
                    except FileNotFoundError:
                        continue
                    except OSError:  # reading it will say why
                        changed_ns = size = 0
                    seen = _Seen(changed_ns, size, now_s, now_s + _SETTLE_S)
                    if (token := seen.token(entry.name)) in self._given:
                        there.append(token)
                        continue
                    before = self._files.get(entry.name)
                    if before and (before.changed_ns, before.size) == (seen.changed_ns, seen.size):
                        seen = before
                    found[entry.name] = seen
        except OSError as error:
            raise CameraError(
                f"camera folder {self._folder}: cannot be listed ({error.strerror})"
            ) from error
        self._files = found
        if len(self._given) > 2 * len(there) + _GONE:
            self._given = dict.fromkeys(there or list(self._given)[-_GONE:])
        settled = [item for item in found.items() if now_s >= item[1].due_s]
        yield from sorted(settled, key=lambda item: (item[1].tried, item[1].changed_ns, item[0]))

    def _item(self, name: str, seen: _Seen) -> Grab | BadImage | None:
        """What a settled file gives; None if it may yet become whole."""
        given_up = time.monotonic() - seen.since_s >= _GIVEN_UP_S
        row = TableRow(self._request.die or "", None)
        if self._request.table is not None:
            named = self._row(name)
            if named is None or not named.die:
                if not given_up:
                    return None
                detail = f"image {name}: the camera's table names no die for it"
                return BadImage(detail, self._request.die, named.part_id if named else None, name)
            row = named
        if self._crashes(seen.token(name)) >= _CRASHES:
            detail = f"image {name}: crashed its reader twice; it is left out"
            return BadImage(detail, row.die, row.part_id, name)
        self._note_attempt(seen.token(name))
        try:
            pixels = read_image(self._folder / name)
        except DataError as error:
            if not given_up:
                return None
            return BadImage(str(error), row.die, row.part_id, name)
        finally:
            self._note_attempt(None)
        return Grab(
            pixels, row.die, row.part_id, name, datetime.now(timezone.utc), time.monotonic()
        )

    def _row(self, name: str) -> TableRow | None:
        """The table's row; the table is read again if it has changed."""
        table = self._request.table
        assert table is not None
        try:
            changed_ns = table.stat().st_mtime_ns
            if changed_ns != self._table_ns:
                self._table, self._table_ns = read_table(table), changed_ns
        except (OSError, SettingsError) as error:
            # Somebody may be writing it just now; the rows of before still hold.
            if not self._table:
                raise CameraError(f"camera table {table}: {error}") from error
        return self._table.get(name)

    # A file that crashes its decoder takes this process with it, and would do so forever.

    def _attempts(self) -> Path | None:
        return self._memory and _attempts_of(self._memory)

    def _crashes(self, token: str) -> int:
        file = self._attempts()
        if file is None or not file.exists():
            return 0
        count, _, of = file.read_text(encoding="utf-8").partition(" ")
        return int(count) if of == token and count.isdigit() else 0

    def _note_attempt(self, token: str | None) -> None:
        file = self._attempts()
        if file is None:
            return
        # Without a note an image that crashes its decoder is tried once more; others go on.
        with suppress(OSError):
            if token is None:
                file.unlink(missing_ok=True)
            else:
                count = self._crashes(token) + 1
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f"{count} {token}", encoding="utf-8")

    def close(self) -> None:
        """Nothing is held."""


def _attempts_of(memory: Path) -> Path:
    return memory.with_suffix(".reading")


def remembered(memory: Path) -> list[str]:
    """What was delivered, as tokens, oldest first; empty before the first."""
    try:
        lines = memory.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            log.warning("%s: cannot be read, so images are judged again: %s", memory, error)
        return []
    return [line for line in lines if _name_in(line) is not None]


def _name_in(token: str) -> str | None:
    """The name of its file; None of a line that a power cut or a full disk has cut."""
    try:
        name, _, _ = json.loads(token)
    except (ValueError, TypeError):
        return None
    return name if isinstance(name, str) else None


def remember(memory: Path, token: str) -> None:
    """Add one that was delivered. If it cannot be written, a restart gives it again: twice is
    better than never."""
    try:
        with memory.open("ab+") as stream:
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                if stream.read() != b"\n":  # The line before was cut.
                    stream.write(b"\n")
            stream.write(f"{token}\n".encode())
    except OSError as error:
        log.warning("%s: cannot be written, so a restart judges an image again: %s", memory, error)


def forget_attempt(request: SourceRequest) -> None:
    """For a process that the station stopped: what it was reading did not crash it."""
    if request.memory is not None:
        with suppress(OSError):
            _attempts_of(request.memory).unlink(missing_ok=True)


class Memory:
    """What was delivered of a watched folder, on disk. What is not in the folder any more is
    dropped at the start, and each time that ``_GONE`` more were delivered."""

    def __init__(self, folder: Path, file: Path) -> None:
        self._folder, self._file = folder, file
        self._added = 0
        forget_gone(folder, file)

    def add(self, token: str) -> None:
        """As ``remember``."""
        remember(self._file, token)
        self._added += 1
        if self._added >= _GONE:
            self._added = 0
            forget_gone(self._folder, self._file)


def forget_gone(folder: Path, memory: Path) -> None:
    """Drop what is not in a watched folder any more, so that its memory does not grow forever; but
    where nothing of it is there, or it cannot be listed, the folder may not be mounted."""
    there: set[str] = set()
    with suppress(OSError):
        there = set(os.listdir(folder))
    before = remembered(memory)
    kept = [token for token in before if _name_in(token) in there] or before[-_GONE:]
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_whole(memory, "".join(f"{token}\n" for token in kept).encode())
    except OSError as error:
        log.warning("%s: cannot be written, so it stays as it is: %s", memory, error)
