"""Recovers a ledger that fails its check: sets it aside under another name, never deletes or
silently replaces it, and salvages what is undamaged. A note beside the ledger names a file that is
set aside but not yet salvaged, so that the next start can resume after a kill.

The statements for a sound ledger are in ``statements``.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from edge_qc.publisher.ledger.file import SCHEMA_VERSION, altered, connect, definitions, prepare
from edge_qc.publisher.ledger.statements import digest
from edge_qc.system.whole_file import sync_folder, write_whole

_LATEST_SCHEMA = 100
"""No edge-qc will ever write a higher one: a higher value means a flipped bit in the header."""

# Python raises UnicodeDecodeError if SQLite's error message quotes damaged schema text.
_UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)

# SQLite's messages when the file may be sound but its surroundings are not. Python has the error
# codes only from 3.11 on.
_NOT_CORRUPT = ("locked", "unable to open", "disk I/O", "disk is full", "readonly")


def open_ledger(file: Path) -> tuple[sqlite3.Connection, str | None]:
    """Open the ledger in ``file``, or create it. Returns it with what happened to the old one:
    None, or why and under which name it was set aside, and what was salvaged.

    Raises PublishError for a ledger of a later schema, sqlite3.Error or OSError if the disk fails.
    """
    note = file.with_name(f"{file.name}.salvage")
    owed = _read(note)
    if owed and not file.exists() and owed[-1][0].exists():
        set_aside(file, owed[-1][0])  # Its log may not have followed it.
    fault = check(file) if file.exists() else None
    if fault is not None:
        aside = _name_aside(file)
        owed = [*(one for one in owed if one[0].exists()), (aside, fault)]
        _write(note, owed)
        set_aside(file, aside)
    connection = prepare(file)
    if not owed:
        return connection, None
    told = [
        f"{fault}; set aside as {aside.name}; salvaged from it: {salvage(aside, connection)}"
        for aside, fault in owed
    ]
    note.unlink()
    sync_folder(file.parent)
    return connection, "; ".join(told)


def check(file: Path) -> str | None:
    """What is wrong with a ledger's file, or None."""
    if (fault := _header_fault(file)) is not None:
        return fault
    try:
        with closing(connect(file)) as connection:
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            finding = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
            if finding != "ok":
                return f"integrity check: {finding.splitlines()[-1][:200]}"
            if version == SCHEMA_VERSION:
                int(connection.execute("SELECT commits FROM ledger").fetchone()[0])
                name = altered(connection)
                return None if name is None else f"the definition of {name} was altered"
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if version == 0 and tables:
                return "it is an SQLite file but not an outbox"
            if version > _LATEST_SCHEMA:
                return f"its header names an impossible schema, {version}"
            return None
    except sqlite3.OperationalError as error:
        if any(phrase in str(error) for phrase in _NOT_CORRUPT):
            raise
        return str(error)
    except (sqlite3.DatabaseError, TypeError, ValueError) as error:
        return str(error)


def _header_fault(file: Path) -> str | None:
    """An impossible file format in the header: SQLite would treat the file as read-only, as if its
    permissions were wrong."""
    with file.open("rb") as stream:
        header = stream.read(20)
    if len(header) == 20 and not {header[18], header[19]} <= {1, 2}:
        return f"its header names impossible file formats, {header[18]} and {header[19]}"
    return None


def _name_aside(file: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = file.with_name(f"{file.name}.corrupt-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = file.with_name(f"{file.name}.corrupt-{stamp}-{number}")
    return aside


def set_aside(file: Path, aside: Path) -> None:
    """Rename a ledger and its log, or whichever of them still exist, durably."""
    for suffix in ("", "-wal", "-shm"):
        part = file.with_name(file.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    sync_folder(file.parent)


def _read(note: Path) -> list[tuple[Path, str]]:
    """A file that is set aside (or about to be) and not yet salvaged, and what is wrong with it."""
    try:
        return [(note.with_name(name), fault) for name, fault in json.loads(note.read_bytes())]
    except FileNotFoundError:
        return []


def _write(note: Path, owed: Sequence[tuple[Path, str]]) -> None:
    write_whole(note, json.dumps([(aside.name, fault) for aside, fault in owed]).encode())


def salvage(aside: Path, into: sqlite3.Connection) -> str:
    """Copy the undamaged, undelivered entries of a ledger that was set aside, in one transaction.
    Returns how many, in words. Copies keep their epoch and ``seq``; nothing is copied twice."""
    if not aside.exists():
        return "nothing, the file is gone"
    with _readable(aside) as source:
        into.execute("BEGIN IMMEDIATE")
        messages = sum(
            into.execute(
                "INSERT OR IGNORE INTO message (kind, verdict_id, epoch, seq, payload, sha256)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                row,
            ).rowcount
            for row in _readable_messages(source)
            if digest(row[4]) == row[5]
        )
        triggers = sum(
            into.execute("INSERT OR IGNORE INTO trigger VALUES (?, ?, ?)", row).rowcount
            for row in _readable_triggers(source)
        )
        into.execute("COMMIT")
    return f"{messages} undelivered messages and {triggers} triggers"


@contextmanager
def _readable(aside: Path) -> Iterator[sqlite3.Connection]:
    """A connection to read a corrupt file by: itself, or, where its table of tables is damaged, a
    copy with a sound one. A single flipped bit in a table's name would otherwise hide whole pages
    of messages."""
    with ExitStack() as stack:
        source = stack.enter_context(closing(connect(aside, read_only=True)))
        try:
            damaged = altered(source) is not None
        except _UNREADABLE:
            damaged = True
        if damaged:
            # The same name each time, so that a start that was killed leaves nothing for good.
            folder = aside.with_name("outbox.salvage")
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            with suppress(*_UNREADABLE, OSError):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                repaired = stack.enter_context(closing(_with_sound_tables(aside, folder)))
                repaired.execute("SELECT 1 FROM message LIMIT 1")
                source = repaired
        yield source


def _with_sound_tables(aside: Path, folder: Path) -> sqlite3.Connection:
    """A copy whose table of tables says what that of a new ledger says: both were made alike."""
    for suffix in ("", "-wal"):
        part = aside.with_name(aside.name + suffix)
        if part.exists():
            shutil.copy(part, folder / f"copy{suffix}")
    connection = sqlite3.connect(folder / "copy", isolation_level=None)
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    try:
        # Before anything else: otherwise SQLite reads the tables, and refuses.
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("DELETE FROM sqlite_master")
        connection.executemany("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", definitions())
        connection.execute("PRAGMA writable_schema=RESET")
    except BaseException:
        connection.close()
        raise
    return connection


def _readable_messages(source: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """The undelivered messages of a corrupt file, except those on unreadable pages."""
    ranges: list[tuple[int, int]] = []
    with suppress(*_UNREADABLE):
        last = source.execute("SELECT seq FROM sqlite_sequence WHERE name = 'message'").fetchone()
        ranges += [(1, int(last[0]))] if last else []
    while ranges:
        first, end = ranges.pop()
        try:
            yield from source.execute(
                "SELECT kind, verdict_id, epoch, seq, payload, sha256 FROM message NOT INDEXED"
                " WHERE row BETWEEN ? AND ? AND state = 0 ORDER BY row",
                (first, end),
            ).fetchall()
        except _UNREADABLE:
            if first < end:
                middle = (first + end) // 2
                ranges += [(middle + 1, end), (first, middle)]


def _readable_triggers(source: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    with suppress(*_UNREADABLE):
        yield from source.execute("SELECT verdict_id, epoch, record FROM trigger")
