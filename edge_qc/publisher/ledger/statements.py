"""Every SQL statement that runs on the outbox's file.

``file`` creates and opens it, ``writer`` owns transactions and threads, ``recovery`` handles a
damaged file.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from edge_qc.publisher.messages import Kind

WAITING, DELIVERED, DAMAGED = 0, 1, 2

_SEAL = "seal"
_KINDS = {kind.value: kind for kind in Kind}
_STORED = "row, kind, epoch, seq, verdict_id, payload, made_s, sha256"
_PAGE = 500


@dataclass(frozen=True, slots=True)
class TriggerRecord:
    """What is known about a view when its trigger arrives. time: UTC. lot, serial: of the part."""

    camera: str
    die: str | None
    trigger_id: str
    part_id: str | None
    time: datetime
    image: str | None = None
    lot: str | None = None
    serial: str | None = None

    def to_json(self) -> str:
        fields = {
            "camera": self.camera,
            "die": self.die,
            "trigger_id": self.trigger_id,
            "part_id": self.part_id,
            "time": self.time.isoformat(),
            "image": self.image,
        }
        # Not there rather than null: a version that does not know them can read the rest.
        if self.lot is not None:
            fields["lot"] = self.lot
        if self.serial is not None:
            fields["serial"] = self.serial
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> TriggerRecord:
        fields = json.loads(text)
        return cls(**{**fields, "time": datetime.fromisoformat(fields["time"])})


@dataclass(frozen=True, slots=True)
class Stored:
    """One message of the ledger. made_s: ``time.monotonic`` of its epoch when it was added; None if
    it was late from the start. whole: the payload matches its hash."""

    row: int
    kind: Kind
    epoch: str
    seq: int
    verdict_id: str | None
    payload: str
    made_s: float | None
    whole: bool


def commits(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT commits FROM ledger").fetchone()[0])


def add_epoch(connection: sqlite3.Connection, epoch: str, started: str) -> None:
    connection.execute("INSERT INTO epoch (epoch, started) VALUES (?, ?)", (epoch, started))


def add_trigger(connection: sqlite3.Connection, verdict_id: str, epoch: str, record: str) -> None:
    """Add a trigger with a seal on its record (a JSON object): otherwise a flipped bit could
    attribute a verdict to another part."""
    sealed = f'{record[:-1]}, "{_SEAL}": "{_seal(verdict_id, record)}"}}'
    connection.execute("INSERT INTO trigger VALUES (?, ?, ?)", (verdict_id, epoch, sealed))


def add_message(
    connection: sqlite3.Connection,
    kind: Kind,
    epoch: str,
    seq: int,
    payload: str,
    made_s: float | None,
    verdict_id: str | None = None,
) -> int:
    """Add a message; a verdict replaces its trigger. Returns its row."""
    added = connection.execute(
        "INSERT INTO message (kind, verdict_id, epoch, seq, payload, sha256, made_s)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (kind.value, verdict_id, epoch, seq, payload, digest(payload), made_s),
    )
    if verdict_id is not None:
        drop_trigger(connection, verdict_id)
    assert added.lastrowid is not None
    return added.lastrowid


def set_state(connection: sqlite3.Connection, state: int, rows: Iterable[int], now: float) -> int:
    """Move undelivered rows to another state. Returns how many moved."""
    return connection.executemany(
        "UPDATE message SET state = ?, delivered_s = ? WHERE row = ? AND state = 0",
        [(state, now, row) for row in rows],
    ).rowcount


def acknowledge(
    connection: sqlite3.Connection, epoch: str, kind: str, upto: int, now: float
) -> int:
    """Mark messages of a kind and epoch up to a number as delivered. Returns how many."""
    # Use the index of undelivered messages. The index of all numbers would visit every message kept
    # for replay, hundreds of thousands, while triggers wait for this transaction.
    return connection.execute(
        "UPDATE message INDEXED BY message_owed SET state = 1, delivered_s = ?"
        " WHERE epoch = ? AND kind = ? AND seq <= ? AND state = 0",
        (now, epoch, kind, upto),
    ).rowcount


def count_commit(connection: sqlite3.Connection, number: int) -> None:
    connection.execute("UPDATE ledger SET commits = ?", (number,))


def triggers(connection: sqlite3.Connection) -> tuple[list[tuple[str, TriggerRecord]], list[str]]:
    """The triggers without a verdict, by time, and the ids of those whose record cannot be read."""
    found, damaged = [], []
    for verdict_id, record in connection.execute("SELECT verdict_id, record FROM trigger"):
        try:
            found.append((verdict_id, TriggerRecord.from_json(_unsealed(verdict_id, record))))
        except (ValueError, TypeError, KeyError, AttributeError):
            damaged.append(verdict_id)
    return sorted(found, key=lambda item: item[1].time), damaged


def _seal(verdict_id: str, record: str) -> str:
    return digest(f"{verdict_id} {record}").hex()[:16]


def _unsealed(verdict_id: str, sealed: str) -> str:
    """Return the record without its seal. Raises ValueError if it or its id was altered."""
    head, _, seal = sealed.rpartition(f', "{_SEAL}": ')
    record = f"{head}}}"
    if seal != f'"{_seal(verdict_id, record)}"}}':
        raise ValueError(f"the trigger of verdict {verdict_id} was altered")
    return record


def drop_trigger(connection: sqlite3.Connection, verdict_id: str) -> None:
    connection.execute("DELETE FROM trigger WHERE verdict_id = ?", (verdict_id,))


def drop_answered(connection: sqlite3.Connection) -> None:
    """Delete triggers that have their verdict: a lost page or a salvage can leave both, and a
    second verdict could not be added."""
    connection.execute("DELETE FROM trigger WHERE verdict_id IN (SELECT verdict_id FROM message)")


def has_verdict(db: sqlite3.Connection, verdict_id: str) -> bool:
    """Whether the ledger holds a message with this id."""
    row = db.execute("SELECT 1 FROM message WHERE verdict_id = ?", (verdict_id,)).fetchone()
    return row is not None


def newest_row(connection: sqlite3.Connection) -> int:
    """That of the message added last; 0 if there is none."""
    return int(connection.execute("SELECT ifnull(max(row), 0) FROM message").fetchone()[0])


def count_waiting(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM message WHERE state = 0").fetchone()[0])


def waiting(
    connection: sqlite3.Connection, after: int, limit: int, held: Sequence[Kind]
) -> list[Stored]:
    """The next messages to send after row ``after``, except those of ``held`` kinds."""
    found = connection.execute(
        f"SELECT {_STORED} FROM message"
        f" WHERE state = 0 AND row > ? AND kind NOT IN ({_marks(held)}) ORDER BY row LIMIT ?",
        (after, *(kind.value for kind in held), limit),
    )
    return [_stored(*fields) for fields in found]


def in_pages(
    connection: sqlite3.Connection, kinds: Sequence[Kind], states: Sequence[int]
) -> Iterator[Stored]:
    """All messages of these kinds and states in commit order, in short transactions: one long read,
    by whoever pauses in it, would keep the station's write-ahead log from shrinking."""
    row = 0
    while found := connection.execute(
        f"SELECT {_STORED} FROM message WHERE row > ? AND kind IN ({_marks(kinds)})"
        f" AND state IN ({_marks(states)}) ORDER BY row LIMIT {_PAGE}",
        (row, *(kind.value for kind in kinds), *states),
    ).fetchall():
        row = found[-1][0]
        yield from (_stored(*fields) for fields in found)


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _stored(
    row: int,
    kind: str,
    epoch: str,
    seq: int,
    verdict_id: str | None,
    payload: str,
    made_s: float | None,
    sha256: bytes,
) -> Stored:
    """A row, whatever a damaged disk made of it."""
    return Stored(
        row,
        _KINDS.get(kind, Kind.EVENT),
        epoch,
        seq,
        verdict_id,
        payload,
        made_s if isinstance(made_s, float) else None,
        whole=kind in _KINDS
        and isinstance(epoch, str)
        and isinstance(seq, int)
        and digest(payload) == sha256,
    )


def prune(
    connection: sqlite3.Connection, before_s: float, keep_bytes: int, most: int = 500
) -> bool:
    """Delete the oldest delivered messages: those delivered before ``before_s``, and any while the
    file exceeds ``keep_bytes``; a limited number per call. True if more may be deleted. Epochs of
    which nothing is left go too, but not the last."""
    used, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    cut = time.time() + 1e9 if (used - free) * size > keep_bytes else before_s
    forgotten = connection.execute(
        "DELETE FROM message WHERE row IN (SELECT row FROM message WHERE state = 1"
        " ORDER BY row LIMIT ?) AND delivered_s < ?",
        (most, cut),
    ).rowcount
    connection.execute(
        "DELETE FROM epoch WHERE number < (SELECT max(number) FROM epoch)"
        " AND NOT EXISTS (SELECT 1 FROM message WHERE message.epoch = epoch.epoch)"
        " AND NOT EXISTS (SELECT 1 FROM trigger WHERE trigger.epoch = epoch.epoch)"
    )
    return forgotten == most


def digest(payload: object) -> bytes:
    """The payload's SHA-256; empty if it is no longer text: a flipped bit can change a value's type
    too."""
    return hashlib.sha256(payload.encode()).digest() if isinstance(payload, str) else b""
