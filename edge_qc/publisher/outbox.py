"""The outbox: what the station has to say, kept on disk until the broker has acknowledged it.

One writer thread owns the ledger and commits whatever has gathered while it was busy with the
commit before (group commit without a waiting time: alone, a trigger pays one sync; under load, a
sync serves hundreds). Marks of delivery wait for company: losing one only sends a message twice.

A trigger is recorded before its view is judged and leaves with its verdict; triggers found at the
next start become NOT_JUDGED ``restart``. Each start is an epoch of its own, and ``seq`` is given
out at the commit. How messages reach the broker is ``mqtt``'s, what the statements are
``ledger``'s.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from edge_qc.errors import PublishError
from edge_qc.parts import NOT_JUDGED, Disposition, Reason
from edge_qc.publisher import ledger
from edge_qc.publisher.disk import Ballast, HighWaterMark, Space, free_bytes
from edge_qc.publisher.ledger import Stored, TriggerRecord
from edge_qc.publisher.messages import (
    DETAIL_LIMIT,
    EventContent,
    Kind,
    PartContent,
    Severity,
    VerdictContent,
)
from edge_qc.publisher.wire import stamped, utc_now

_BATCH = 256
_LINGER_S = 0.2
_RETRY_S = 0.5
_PRUNE_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """waiting: messages that the broker has not acknowledged. open_triggers: accepted, without a
    verdict. fault: why nothing can be recorded any more; None while all is well."""

    epoch: str
    waiting: int
    open_triggers: int
    free_bytes: int
    space: Space
    fault: str | None


@dataclass(slots=True)
class _Entry:
    """One thing to commit. kind None: the trigger ``verdict_id``."""

    text: str
    kind: Kind | None
    verdict_id: str | None = None
    made_s: float | None = None
    done: Future[None] = field(default_factory=Future)


class Outbox:
    """Triggers and messages on disk. Every method may be called from any thread."""

    def __init__(
        self,
        path: Path,
        *,
        site: str,
        station: str,
        low_bytes: int,
        full_bytes: int,
        keep_days: float,
        keep_bytes: int,
        ballast_bytes: int,
    ) -> None:
        """Use ``Outbox.open``."""
        self.epoch = str(uuid.uuid4())
        self._path, self._site, self._station = path, site, station
        self._low, self._full = low_bytes, full_bytes
        self._keep_days, self._keep_bytes = keep_days, keep_bytes
        self._lock_fd = _lock(path)
        try:
            self._mark = HighWaterMark(path.with_name(f"{path.name}.mark"))
            self._ballast = Ballast(path.with_name(f"{path.name}.ballast"), ballast_bytes)
            existed = path.exists()
            self._db, fault = ledger.open_ledger(path)
            self._reader = ledger.connect(path, read_only=True)
        except BaseException:
            os.close(self._lock_fd)
            raise
        self._commits = ledger.commits(self._db)
        marked = self._mark.read()
        if fault is None and self._commits < marked:
            fault = f"the ledger holds {self._commits} commits and {marked} were made: " + (
                "its last ones are gone" if existed else "it was removed"
            )
        self._commits = max(self._commits, marked)
        self._seq = dict.fromkeys((Kind.VERDICT, Kind.PART, Kind.EVENT), 0)
        self._open: set[str] = set()
        self._waiting = ledger.count_waiting(self._db)
        self._changed = threading.Condition()
        self._read_lock = threading.Lock()
        self._queue: list[_Entry] = []
        self._settled: dict[int, int] = {}
        self._on_commit: Callable[[], None] = lambda: None
        self._closing = False
        self._fault: str | None = None
        self._squeezed = False
        self._pruned_s = 0.0
        self._ballast.take()
        self._begin_epoch(fault)
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        site: str,
        station: str,
        low_bytes: int = 256 * 2**20,
        full_bytes: int = 64 * 2**20,
        keep_days: float = 7.0,
        keep_bytes: int = 512 * 2**20,
        ballast_bytes: int = 16 * 2**20,
    ) -> Outbox:
        """The outbox in the SQLite file ``path``, made where there is none; its folder too.

        Below ``low_bytes`` of free disk its space is LOW, below ``full_bytes`` FULL. Delivered
        messages are kept for replay for so many days and while the file holds so many bytes.
        Raises PublishError where another process has it open, or the disk refuses.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return cls(
                path,
                site=site,
                station=station,
                low_bytes=low_bytes,
                full_bytes=full_bytes,
                keep_days=keep_days,
                keep_bytes=keep_bytes,
                ballast_bytes=ballast_bytes,
            )
        except (OSError, sqlite3.Error) as error:
            raise PublishError(
                f"outbox {path}: {error}. See that its folder is on a local disk with room left, "
                "and that this user may write there"
            ) from error

    def trigger(self, verdict_id: str, record: TriggerRecord) -> Future[None]:
        """Accepts a trigger: from here on it gets a verdict, come what may.

        The future is done when that is durable. Raises PublishError, and records nothing, where
        the disk is full or the outbox has failed: refuse the trigger then.
        """
        if self.space() is Space.FULL:
            raise PublishError(
                f"outbox {self._path}: the disk is full ({free_bytes(self._path.parent)} bytes "
                f"free, {self._full} wanted); triggers are refused until there is room"
            )
        entry = _Entry(record.to_json(), None, verdict_id)
        with self._changed:
            if verdict_id in self._open:
                raise PublishError(f"trigger {verdict_id} was recorded before")
            self._put(entry)
            self._open.add(verdict_id)
        return entry.done

    def verdict(self, verdict_id: str, content: VerdictContent) -> Future[None]:
        """Completes a trigger with its one verdict. The future is done when that is durable.

        Raises PublishError where the trigger is unknown or has its verdict.
        """
        entry = _Entry(_json(content), Kind.VERDICT, verdict_id, time.monotonic())
        with self._changed:
            if verdict_id not in self._open:
                raise PublishError(f"verdict {verdict_id}: no trigger waits for it")
            self._put(entry)
            self._open.remove(verdict_id)
        return entry.done

    def part(self, content: PartContent) -> Future[None]:
        """Adds the verdict on a whole part."""
        return self._add(Kind.PART, _json(content))

    def event(
        self,
        event: str,
        detail: str = "",
        *,
        severity: Severity = Severity.INFO,
        camera: str | None = None,
    ) -> Future[None]:
        """Adds an event, such as ``camera-lost``."""
        return self._add(Kind.EVENT, _json(_event(event, detail, severity, camera)))

    def status(self) -> OutboxStatus:
        with self._changed:
            return OutboxStatus(
                epoch=self.epoch,
                waiting=self._waiting - len(self._settled),
                open_triggers=len(self._open),
                free_bytes=free_bytes(self._path.parent),
                space=self.space(),
                fault=self._fault,
            )

    def space(self) -> Space:
        """How much room the disk has left."""
        free = free_bytes(self._path.parent)
        if self._squeezed or free < self._full:
            return Space.FULL
        return Space.LOW if free < self._low else Space.OK

    def on_commit(self, call: Callable[[], None]) -> None:
        """Has ``call`` called from the writer's thread after each commit; it must not block."""
        self._on_commit = call

    def waiting(self, after: int, limit: int, held: Sequence[Kind] = ()) -> list[Stored]:
        """The next committed messages to send behind row ``after``, in order. A message whose hash
        no longer fits is named in a ``ledger-gap`` event instead."""
        with self._changed:
            settled = frozenset(self._settled)
        try:
            with self._read_lock:
                found = ledger.waiting(self._reader, after, limit + len(settled), held)
        except sqlite3.Error as error:
            raise PublishError(f"outbox {self._path} cannot be read: {error}") from error
        found = [message for message in found if message.row not in settled][:limit]
        for message in found:
            if not message.whole:
                self._settle([message.row], ledger.DAMAGED)
                self.event(
                    "ledger-gap",
                    f"message {message.kind.value} {message.seq} of epoch {message.epoch} "
                    f"(verdict {message.verdict_id}) was damaged on disk and is not sent",
                    severity=Severity.ALARM,
                )
        return [message for message in found if message.whole]

    def delivered(self, rows: Sequence[int]) -> None:
        """Marks messages as acknowledged by the broker."""
        self._settle(rows, ledger.DELIVERED)

    def wait_delivered(self, timeout_s: float) -> bool:
        """Waits until nothing is left to write or to send; False where the time was too short."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._queue and self._waiting == len(self._settled), timeout_s
            )

    def close(self) -> None:
        """Commits what is queued and closes the file. What cannot be written fails its future."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        with self._read_lock:
            self._reader.close()
        self._db.close()
        self._mark.close()
        os.close(self._lock_fd)

    def __enter__(self) -> Outbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _add(self, kind: Kind, text: str) -> Future[None]:
        entry = _Entry(text, kind, None, time.monotonic())
        with self._changed:
            self._put(entry)
        return entry.done

    def _put(self, entry: _Entry) -> None:
        if self._closing or self._fault is not None:
            raise PublishError(f"outbox {self._path}: {self._fault or 'is closed'}")
        self._queue.append(entry)
        self._changed.notify_all()

    def _settle(self, rows: Sequence[int], state: int) -> None:
        with self._changed:
            self._settled.update(dict.fromkeys(rows, state))
            self._changed.notify_all()

    def _begin_epoch(self, fault: str | None) -> None:
        """One commit, before anything else: the epoch, what happened to the ledger, and a verdict
        for every trigger that a crash left without one."""
        entries = []
        if fault is not None:
            gap = _event("ledger-gap", fault, Severity.ALARM, None)
            entries.append(_Entry(_json(gap), Kind.EVENT, None, time.monotonic()))
        entries += [
            _Entry(_json(_restarted(record)), Kind.VERDICT, verdict_id)
            for verdict_id, record in ledger.triggers(self._db)
        ]
        self._db.execute("BEGIN IMMEDIATE")
        ledger.add_epoch(self._db, self.epoch, utc_now().isoformat())
        self._seq, added = self._insert(entries)
        self._end_commit()
        self._waiting += added

    def _run(self) -> None:
        try:
            while True:
                entries, settled = self._gather()
                if not entries and not settled:
                    return
                self._commit(entries, settled)
                self._on_commit()
        except Exception as error:
            self._fail(f"cannot be written any more: {error}. Restart the station")

    def _gather(self) -> tuple[list[_Entry], dict[int, int]]:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._settled or self._closing)
            if not self._queue and not self._closing:
                self._changed.wait_for(lambda: self._queue or self._closing, _LINGER_S)
            return self._queue[:_BATCH], dict(self._settled)

    def _commit(self, entries: list[_Entry], settled: dict[int, int]) -> None:
        while True:
            try:
                seq, added = self._transaction(entries, settled)
                break
            except sqlite3.OperationalError as error:
                self._roll_back()
                if not ("full" in str(error) or "disk I/O" in str(error)):
                    raise
                self._wait_for_room(error)
        with self._changed:
            self._seq = seq
            del self._queue[: len(entries)]
            for row in settled:
                del self._settled[row]
            self._waiting += added - len(settled)
            self._changed.notify_all()
        for entry in entries:
            entry.done.set_result(None)
        if self._squeezed and free_bytes(self._path.parent) > self._full:
            self._squeezed = False
            self._ballast.take()

    def _transaction(
        self, entries: list[_Entry], settled: dict[int, int]
    ) -> tuple[dict[Kind, int], int]:
        self._db.execute("BEGIN IMMEDIATE")
        seq, added = self._insert(entries)
        now = time.time()
        for state in set(settled.values()):
            rows = [row for row, reached in settled.items() if reached == state]
            ledger.set_state(self._db, state, rows, now)
        if time.monotonic() - self._pruned_s > _PRUNE_EVERY_S:
            self._pruned_s = time.monotonic()
            ledger.prune(self._db, now - self._keep_days * 86_400, self._keep_bytes)
        self._end_commit()
        return seq, added

    def _insert(self, entries: Sequence[_Entry]) -> tuple[dict[Kind, int], int]:
        """Inserts entries in the open transaction; the next state of ``_seq``, and how many
        messages were added."""
        seq, added = dict(self._seq), 0
        for entry in entries:
            if entry.kind is None:
                ledger.add_trigger(self._db, str(entry.verdict_id), self.epoch, entry.text)
                continue
            seq[entry.kind] += 1
            added += 1
            payload = stamped(
                entry.kind,
                entry.text,
                epoch=self.epoch,
                site=self._site,
                station=self._station,
                seq=seq[entry.kind],
                verdict_id=entry.verdict_id,
            )
            ledger.add_message(
                self._db,
                entry.kind,
                self.epoch,
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

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _wait_for_room(self, error: Exception) -> None:
        """The disk refuses: gives up the ballast, or waits; nothing queued is dropped."""
        self._squeezed = True
        if self._ballast.free():
            return
        with self._changed:
            if self._changed.wait_for(lambda: self._closing, _RETRY_S):
                raise error

    def _fail(self, fault: str) -> None:
        with self._changed:
            self._fault = fault
            queued, self._queue = self._queue, []
            self._changed.notify_all()
        for entry in queued:
            entry.done.set_exception(PublishError(f"outbox {self._path}: {fault}"))


def _json(content: VerdictContent | PartContent | EventContent) -> str:
    return content.model_dump_json(by_alias=True)


def _event(event: str, detail: str, severity: Severity, camera: str | None) -> EventContent:
    return EventContent(
        event=event, severity=severity, time=utc_now(), camera=camera, detail=detail[:DETAIL_LIMIT]
    )


def _restarted(record: TriggerRecord) -> VerdictContent:
    return VerdictContent(
        camera=record.camera,
        die=record.die,
        part_id=record.part_id,
        trigger_id=record.trigger_id,
        time=record.time,
        label=NOT_JUDGED,
        disposition=Disposition.REVIEW,
        reason=Reason.RESTART,
        image=record.image,
        detail="the station stopped between this trigger and its verdict",
    )


def _lock(path: Path) -> int:
    fd = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise PublishError(
            f"outbox {path}: another process has it open. Stop that station first, or give this "
            "one a state_dir of its own"
        ) from error
    return fd
