"""The outbox's only writer: a thread that commits whatever gathered during the previous commit.

This is group commit: a single trigger costs one sync; under load one sync serves hundreds of rows.
Only while frames queue does it wait for more rows, so that the syncs leave the processor to those
frames. Delivery marks wait for other entries, since losing one only sends a message twice; so does
the high-water mark's sync. ``seq`` is assigned inside the transaction, so that it has no gaps.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from edge_qc.errors import PublishError
from edge_qc.publisher.ledger import statements as ledger
from edge_qc.publisher.ledger.disk import Ballast, HighWaterMark, Room, is_full
from edge_qc.publisher.ledger.recovery import open_ledger
from edge_qc.publisher.messages import NUMBERED, Kind
from edge_qc.publisher.wire import stamped, utc_now

_BATCH = 256
_LINGER_S = 0.2
_GATHER_S = 0.005
_MARK_S = 0.2
_TURN_S = 5.0
_RETRY_S = 0.5
_PRUNE_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Origin:
    """The sender: the stamp's fields that stay the same for a whole run."""

    epoch: str
    site: str
    station: str


@dataclass(slots=True)
class Entry:
    """One entry to commit. kind None: the trigger ``verdict_id``. made_s: ``time.monotonic``; None
    if it is late from the start. done: completes when it is durable."""

    text: str
    kind: Kind | None
    verdict_id: str | None = None
    made_s: float | None = None
    done: Future[None] = field(default_factory=Future)


class Writer:
    """Owns the ledger's connection. ``changed`` guards the state that threads share. newest: the
    row of the last committed message. behind: whether frames queue."""

    def __init__(self, file: Path, origin: Origin, room: Room) -> None:
        """Open the ledger. gap: what it lost, in words, or None."""
        self._file, self._origin, self._room = file, origin, room
        existed = file.exists()
        self._ballast = Ballast(file, room.ballast_bytes)
        self._db, self.gap = open_ledger(file)
        ledger.drop_answered(self._db)
        self._mark = HighWaterMark(file.with_name(f"{file.name}.mark"))
        self._commits = ledger.commits(self._db)
        marked = self._mark.read()
        if self.gap is None and self._commits < marked:
            lost = "its last ones are lost" if existed else "the file was removed"
            self.gap = f"the ledger {file.name} holds {self._commits} of {marked} commits: {lost}"
        self._commits = max(self._commits, marked)
        self._seq = dict.fromkeys(NUMBERED, 0)
        self._queue: list[Entry] = []
        self._settled: dict[int, int] = {}
        self._acknowledged: dict[tuple[str, str], int] = {}
        self._waiting = ledger.count_waiting(self._db)
        self.newest = self._inserted = ledger.newest_row(self._db)
        self._pruned_s = time.monotonic()
        self._closing = self.behind = False
        self._hurry = threading.Event()
        self.turns = 0
        self.changed = threading.Condition()
        self.on_commit: Callable[[], None] = lambda: None
        self.fault: str | None = None
        self._blocked, self._squeezed = False, not self._ballast.take(room.full_bytes)
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    @property
    def waiting(self) -> int:
        """How many committed messages are in the outbox."""
        # A second acknowledgement of the same message does not count.
        return max(0, self._waiting - len(self._settled))

    @property
    def idle(self) -> bool:
        """Whether nothing is left to write or to send."""
        return not self._queue and self.waiting == 0

    @property
    def settled(self) -> frozenset[int]:
        """Rows that have left but are not yet marked in the ledger."""
        return frozenset(self._settled)

    @property
    def squeezed(self) -> bool:
        """Whether the disk was full and the ballast is not reserved again yet."""
        if self._squeezed and not self._blocked:
            self._squeezed = not self._ballast.take(self._room.full_bytes)
        return self._squeezed

    def unfinished(self) -> tuple[list[tuple[str, ledger.TriggerRecord]], list[str]]:
        """As ``statements.triggers``; call it before ``start``."""
        return ledger.triggers(self._db)

    def start(self, entries: Sequence[Entry], drop: Sequence[str]) -> None:
        """Begin the epoch: commit these entries together, delete the triggers ``drop``, and start
        the thread."""
        self._db.execute("BEGIN IMMEDIATE")
        ledger.add_epoch(self._db, self._origin.epoch, utc_now().isoformat())
        for verdict_id in drop:
            ledger.drop_trigger(self._db, verdict_id)
        self._seq, added = self._insert(entries)
        self._end_commit()
        self._waiting += added
        self.newest = self._inserted
        self._thread.start()

    def put(self, entry: Entry, *, hurry: bool = False) -> None:
        """Queue an entry; the caller holds ``changed``. hurry: whether it must not wait for others.
        Raises PublishError after its end."""
        if self._closing or self.fault is not None:
            raise PublishError(f"outbox {self._file}: {self.fault or 'is closed'}")
        self._queue.append(entry)
        if hurry:
            self._hurry.set()
        self.changed.notify_all()

    def settle(self, rows: Sequence[int], state: int) -> None:
        """Move rows from undelivered to another state."""
        with self.changed:
            self._settled.update(dict.fromkeys(rows, state))
            self.changed.notify_all()

    def acknowledge(self, epoch: str, kind: Kind, upto: int) -> None:
        """Mark messages of a kind and epoch up to a number as delivered."""
        with self.changed:
            key = epoch, kind.value
            self._acknowledged[key] = max(upto, self._acknowledged.get(key, 0))
            self.changed.notify_all()

    def close(self) -> None:
        """Commit the queue as far as the disk allows, and close the ledger."""
        with self.changed:
            self._closing = True
            self._hurry.set()
            self.changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._db.close()
        self._mark.close()

    def _run(self) -> None:
        try:
            while True:
                self.turns += 1
                entries, settled, acknowledged = self._gather()
                if entries or settled or acknowledged:
                    self._commit(entries, settled, acknowledged)
                elif self._closing:
                    return
                if any(entry.kind for entry in entries):
                    self.on_commit()
                self._mark.sync(_MARK_S)
        except Exception as error:
            self._fail(f"can no longer be written: {error}")

    def _gather(self) -> tuple[list[Entry], dict[int, int], dict[tuple[str, str], int]]:
        with self.changed:
            self.changed.wait_for(
                lambda: self._queue or self._settled or self._acknowledged or self._closing,
                _MARK_S if self._mark.unsynced else _TURN_S,
            )
            if (self._settled or self._acknowledged) and not self._queue and not self._closing:
                self.changed.wait_for(lambda: self._queue or self._closing, _LINGER_S)
        if self.behind:
            self._hurry.wait(_GATHER_S)
        with self.changed:
            if not self._closing:
                self._hurry.clear()
            return self._queue[:_BATCH], dict(self._settled), dict(self._acknowledged)

    def _commit(
        self,
        entries: list[Entry],
        settled: dict[int, int],
        acknowledged: dict[tuple[str, str], int],
    ) -> None:
        while True:
            try:
                seq, more = self._transaction(entries, settled, acknowledged)
                break
            except sqlite3.OperationalError as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if not is_full(self._file.parent, error):
                    raise
                self._wait_for_room(error)
        with self.changed:
            self._seq, self._blocked = seq, False
            del self._queue[: len(entries)]
            for row in settled:
                del self._settled[row]
            for key, upto in acknowledged.items():
                if self._acknowledged[key] == upto:
                    del self._acknowledged[key]
            self._waiting += more
            self.newest = self._inserted
            self.changed.notify_all()
        for entry in entries:
            entry.done.set_result(None)

    def _transaction(
        self,
        entries: list[Entry],
        settled: dict[int, int],
        acknowledged: dict[tuple[str, str], int],
    ) -> tuple[dict[Kind, int], int]:
        """Commit a group. Returns the next state of ``_seq`` and the change in the number of
        undelivered messages."""
        self._db.execute("BEGIN IMMEDIATE")
        seq, more = self._insert(entries)
        now = time.time()
        for state in set(settled.values()):
            rows = [row for row, reached in settled.items() if reached == state]
            more -= ledger.set_state(self._db, state, rows, now)
        for (epoch, kind), upto in acknowledged.items():
            more -= ledger.acknowledge(self._db, epoch, kind, upto, now)
        if time.monotonic() - self._pruned_s > _PRUNE_EVERY_S:
            before_s = now - self._room.keep_days * 86_400
            if not ledger.prune(self._db, before_s, self._room.keep_bytes):
                self._pruned_s = time.monotonic()
        self._end_commit()
        return seq, more

    def _insert(self, entries: Sequence[Entry]) -> tuple[dict[Kind, int], int]:
        """Insert entries in the open transaction. Returns the next state of ``_seq`` and the number
        of added messages."""
        seq, added = dict(self._seq), 0
        for entry in entries:
            if entry.kind is None:
                assert entry.verdict_id is not None
                ledger.add_trigger(self._db, entry.verdict_id, self._origin.epoch, entry.text)
                continue
            seq[entry.kind] += 1
            added += 1
            payload = stamped(
                entry.kind,
                entry.text,
                epoch=self._origin.epoch,
                site=self._origin.site,
                station=self._origin.station,
                seq=seq[entry.kind],
                verdict_id=entry.verdict_id,
            )
            self._inserted = ledger.add_message(
                self._db,
                entry.kind,
                self._origin.epoch,
                seq[entry.kind],
                payload,
                entry.made_s,
                entry.verdict_id,
            )
        return seq, added

    def _end_commit(self) -> None:
        ledger.count_commit(self._db, self._commits + 1)
        self._db.execute("COMMIT")
        self._commits += 1
        self._mark.write(self._commits)

    def _wait_for_room(self, error: Exception) -> None:
        """Handle a full disk: delete the ballast, or wait. Nothing queued is dropped."""
        self._blocked = self._squeezed = True
        self.turns += 1
        if self._ballast.free():
            return
        with self.changed:
            if self.changed.wait_for(lambda: self._closing, _RETRY_S):
                raise error

    def _fail(self, fault: str) -> None:
        with self.changed:
            self.fault = fault
            queued, self._queue = self._queue, []
            self.changed.notify_all()
        for entry in queued:
            entry.done.set_exception(PublishError(f"outbox {self._file}: {fault}"))
