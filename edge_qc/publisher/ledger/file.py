"""The outbox's SQLite file: its tables, how to open it, and whether its schema is intact.

A write-ahead log with ``synchronous=FULL``: commits survive a power cut. The statements are in
``statements``.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from edge_qc.errors import PublishError
from edge_qc.system.whole_file import sync_folder

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE ledger (commits INTEGER NOT NULL);
INSERT INTO ledger VALUES (0);
CREATE TABLE epoch (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    epoch TEXT NOT NULL UNIQUE,
    started TEXT NOT NULL
);
CREATE TABLE trigger (
    verdict_id TEXT PRIMARY KEY,
    epoch TEXT NOT NULL,
    record TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE message (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    verdict_id TEXT UNIQUE,
    epoch TEXT NOT NULL,
    seq INTEGER NOT NULL,
    payload TEXT NOT NULL,
    sha256 BLOB NOT NULL,
    made_s REAL,
    state INTEGER NOT NULL DEFAULT 0,
    delivered_s REAL,
    UNIQUE (epoch, kind, seq)
);
CREATE INDEX message_waiting ON message (row) WHERE state = 0;
CREATE INDEX message_delivered ON message (row) WHERE state = 1;
"""

_LATER_INDEXES = """
CREATE INDEX IF NOT EXISTS message_owed ON message (epoch, kind, seq) WHERE state = 0;
"""
"""Of the same schema: an edge-qc without them reads and writes the ledger all the same."""


def connect(file: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open a connection in autocommit mode, usable from any thread. Raises sqlite3.Error."""
    uri = f"{file.resolve().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, timeout=10
    )
    # A flipped bit must reach the hash check and not end the query.
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    if not read_only:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA journal_size_limit=16777216")
    return connection


def prepare(file: Path) -> sqlite3.Connection:
    """Open a ledger that passed its check; create it if there is none.

    Raises PublishError for a ledger of a later schema.
    """
    connection = connect(file)
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        connection.close()
        raise PublishError(
            f"{file}: outbox of schema {version}; this edge-qc reads up to {SCHEMA_VERSION}. "
            "Install the edge-qc that wrote it, or move the file away once all its messages are "
            "delivered"
        )
    if version == 0:
        connection.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
        sync_folder(file.parent)
    connection.executescript(_LATER_INDEXES)
    return connection


def definitions() -> list[tuple[object, ...]]:
    """The rows of ``sqlite_master`` of a new ledger, where its pages lie among them."""
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(_SCHEMA)
        return fresh.execute("SELECT * FROM sqlite_master ORDER BY rowid").fetchall()


def altered(connection: sqlite3.Connection) -> str | None:
    """The name of a table or index whose definition was altered, which SQLite's own check does not
    detect; None if all are intact."""

    def listed(database: sqlite3.Connection) -> dict[str, list[object]]:
        rows = database.execute("SELECT name, type, tbl_name, sql FROM sqlite_master")
        return {str(name): rest for name, *rest in rows}

    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(_SCHEMA)
        first = listed(fresh)
        fresh.executescript(_LATER_INDEXES)
        wanted = listed(fresh)
    seen = listed(connection)
    for name, made in wanted.items():
        if seen.get(name) != made and (name in first or name in seen):
            return name
    return None
