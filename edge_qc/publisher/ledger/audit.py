"""Reads an outbox from outside, whether its station runs or not: counts, messages, and a
consistency check. Never writes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from edge_qc.errors import PublishError
from edge_qc.publisher.ledger import file as ledger_file
from edge_qc.publisher.ledger import statements as ledger
from edge_qc.publisher.ledger.disk import HighWaterMark
from edge_qc.publisher.messages import NUMBERED, Kind


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """waiting and delivered: messages by kind. damaged: messages that were not sent because their
    hash did not match. oldest_waiting: the oldest message's ``time`` (UTC, RFC 3339), or None.
    set_aside: names of the corrupt files beside it."""

    file: Path
    bytes: int
    epochs: int
    epoch: str | None
    commits: int
    waiting: dict[str, int]
    delivered: dict[str, int]
    damaged: int
    open_triggers: int
    oldest_waiting: str | None
    set_aside: tuple[str, ...]


def report(file: Path) -> LedgerReport:
    """Count what an outbox holds. Raises PublishError if there is none, or it cannot be read."""
    with closing(open_outbox(file)) as reader:
        try:
            return _report(file, reader)
        except sqlite3.Error as error:
            raise _unreadable(file, error) from error


def messages(file: Path, *, kind: Kind | None = None, waiting: bool = False) -> Iterator[str]:
    """The payloads in commit order, as JSON texts. waiting: only unacknowledged ones. Raises
    PublishError."""
    with closing(open_outbox(file)) as reader:
        try:
            kinds = NUMBERED if kind is None else (kind,)
            states = (ledger.WAITING,) if waiting else (ledger.WAITING, ledger.DELIVERED)
            for message in ledger.in_pages(reader, kinds, states):
                yield str(message.payload)
        except sqlite3.Error as error:
            raise _unreadable(file, error) from error


def faults(file: Path) -> Iterator[str]:
    """List what is wrong with an outbox, in words: SQLite's own findings, lost commits, payloads
    that do not match their hash, missing numbers. Raises PublishError if it cannot be read at
    all."""
    with closing(open_outbox(file)) as reader:
        try:
            for (finding,) in reader.execute("PRAGMA integrity_check(20)"):
                if finding != "ok":
                    yield f"integrity check: {finding}"
            # Read this before the ledger's own count: a running station raises the mark last.
            marked = _mark(file)
            commits = ledger.commits(reader)
            if commits < marked:
                yield f"{commits} of {marked} commits: the last ones are lost"
            yield from _message_faults(reader)
        except sqlite3.Error as error:
            raise _unreadable(file, error) from error


def _message_faults(reader: sqlite3.Connection) -> Iterator[str]:
    last: dict[tuple[str, str], int] = {}
    for row, kind, epoch, seq, payload, sha256 in reader.execute(
        "SELECT row, kind, epoch, seq, payload, sha256 FROM message ORDER BY epoch, kind, seq"
    ):
        if ledger.digest(payload) != sha256:
            yield f"message {row} ({kind} {seq} of epoch {epoch}): the payload was altered"
        before = last.get((epoch, kind))
        # Old messages are deleted in time, so an epoch need not begin with 1.
        if before is not None and seq != before + 1:
            yield f"epoch {epoch}: {kind} {before + 1} to {seq - 1} are missing"
        last[epoch, kind] = seq


def _report(file: Path, reader: sqlite3.Connection) -> LedgerReport:
    counts: dict[int, dict[str, int]] = {
        state: {} for state in (ledger.WAITING, ledger.DELIVERED, ledger.DAMAGED)
    }
    for state, kind, count in reader.execute(
        "SELECT state, kind, count(*) FROM message GROUP BY state, kind"
    ):
        counts.setdefault(state, {})[kind] = count
    epochs = reader.execute("SELECT epoch FROM epoch ORDER BY number").fetchall()
    oldest = reader.execute(
        "SELECT payload FROM message WHERE state = 0 ORDER BY row LIMIT 1"
    ).fetchone()
    (open_triggers,) = reader.execute("SELECT count(*) FROM trigger").fetchone()
    return LedgerReport(
        file=file,
        bytes=sum(part.stat().st_size for part in file.parent.glob(f"{file.name}*")),
        epochs=len(epochs),
        epoch=epochs[-1][0] if epochs else None,
        commits=ledger.commits(reader),
        waiting=counts[ledger.WAITING],
        delivered=counts[ledger.DELIVERED],
        damaged=sum(counts[ledger.DAMAGED].values()),
        open_triggers=open_triggers,
        oldest_waiting=_time_of(oldest[0]) if oldest else None,
        set_aside=tuple(
            sorted(
                part.name
                for part in file.parent.glob(f"{file.name}.corrupt-*")
                if not part.name.endswith(("-wal", "-shm"))
            )
        ),
    )


def _time_of(payload: str) -> str | None:
    try:
        return str(json.loads(payload)["time"])
    except (ValueError, KeyError, TypeError):
        return None


def _mark(file: Path) -> int:
    beside = file.with_name(f"{file.name}.mark")
    if not beside.exists():
        return 0
    try:
        return HighWaterMark.peek(beside)
    except OSError as error:
        raise PublishError(f"{beside}: {error}") from error


def open_outbox(file: Path) -> sqlite3.Connection:
    """Open an outbox for reading. Raises PublishError."""
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise PublishError(
            f"{file}: no outbox found. Start the station once, or correct station.state_dir in "
            "station.toml"
        ) from None
    except OSError as error:
        raise PublishError(
            f"{file}: cannot be looked at ({error.strerror}). Run the command as the station's "
            "user: sudo -u edge-qc edge-qc …"
        ) from error
    try:
        reader = ledger_file.connect(file, read_only=True)
        version = int(reader.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as error:
        raise _unreadable(file, error) from error
    if version != ledger_file.SCHEMA_VERSION:
        reader.close()
        raise PublishError(
            f"{file}: outbox of schema {version}; this edge-qc reads schema "
            f"{ledger_file.SCHEMA_VERSION}. Use the edge-qc that wrote it"
        )
    return reader


def _unreadable(file: Path, error: sqlite3.Error) -> PublishError:
    return PublishError(
        f"{file} cannot be read: {error}. If it is corrupt, the station's next start sets it aside "
        "and sends what is undamaged"
    )
