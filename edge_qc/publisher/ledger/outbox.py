"""The outbox: keeps every message on disk until the broker has acknowledged it.

A trigger is recorded before its view is judged, and its verdict replaces it. The next start turns
triggers without a verdict into NOT_JUDGED ``restart``. Each start is a new epoch, so that numbers
lost with a disk's last writes are never assigned again. ``mqtt`` sends the messages, ``writer``
commits them, ``statements`` holds the SQL.
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
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from edge_qc.errors import PublishError
from edge_qc.publisher.ledger import file as ledger_file
from edge_qc.publisher.ledger import statements as ledger
from edge_qc.publisher.ledger.beginning import an_event, as_json, first_entries
from edge_qc.publisher.ledger.disk import Ballast, FreeSpace, Room, Space, is_full
from edge_qc.publisher.ledger.statements import Stored, TriggerRecord
from edge_qc.publisher.ledger.writer import Entry, Origin, Writer
from edge_qc.publisher.messages import (
    EventContent,
    Kind,
    OverruleContent,
    PartContent,
    Severity,
    VerdictContent,
)

OUTBOX_FILE = "outbox.sqlite"
"""The file's name in a station's ``state_dir``."""


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """waiting: messages in the outbox, not yet acknowledged. open_triggers: accepted, without a
    verdict. fault: why nothing can be recorded any more, or None."""

    epoch: str
    waiting: int
    open_triggers: int
    free_bytes: int
    space: Space
    fault: str | None


class Outbox:
    """Triggers and messages on disk. Every method is safe from any thread."""

    def __init__(self, path: Path, *, site: str, station: str, room: Room) -> None:
        """Use ``Outbox.open``."""
        self.epoch = str(uuid.uuid4())
        self._path, self._room, self._free = path, room, FreeSpace(path.parent)
        self._open: set[str] = set()
        self._read_lock = threading.Lock()
        with ExitStack() as opened:
            opened.callback(os.close, _lock(path))
            self._writer = Writer(path, Origin(self.epoch, site, station), room)
            opened.callback(self._writer.close)
            self._reader = ledger_file.connect(path, read_only=True)
            opened.callback(self._reader.close)
            self._begin_epoch()
            self._opened = opened.pop_all()

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
        """Open the outbox in the SQLite file ``path``; create it and its folder if missing.

        Below ``low_bytes`` of free disk its space is LOW, below ``full_bytes`` FULL; a ballast file
        of ``ballast_bytes`` reserves space for the verdicts on triggers accepted by then. Delivered
        messages stay for replay for ``keep_days``, while the file holds at most ``keep_bytes``.
        Raises PublishError if another process has it open, or the disk fails.
        """
        room = Room(low_bytes, full_bytes, keep_days, keep_bytes, ballast_bytes)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return cls(path, site=site, station=station, room=room)
            except (OSError, sqlite3.OperationalError) as error:
                # A station that starts on a full disk must still be able to report it.
                if not (is_full(path.parent, error) and Ballast(path, 0).free()):
                    raise
                return cls(path, site=site, station=station, room=room)
        except (OSError, sqlite3.Error) as error:
            raise PublishError(
                f"outbox {path}: {error}. Check that its folder is on a local disk with free space "
                "and that this user may write there"
            ) from error

    def trigger(
        self, verdict_id: str, record: TriggerRecord, *, hurry: bool = False
    ) -> Future[None]:
        """Accept a trigger: from here on it will get exactly one verdict.

        The future completes when the record is durable. hurry: whether a part waits for that, even
        where the line is behind. Raises PublishError, and records nothing,
        if the disk is full or the outbox has failed: refuse the trigger then.
        """
        if self.space() is Space.FULL:
            wanted = self._room.full_bytes + self._room.ballast_bytes
            raise PublishError(
                f"outbox {self._path}: the disk is full ({self._free.bytes} bytes free, {wanted} "
                "needed). Free disk space; triggers are refused until then"
            )
        entry = Entry(record.to_json(), None, verdict_id)
        with self._writer.changed:
            if verdict_id in self._open:
                raise PublishError(f"trigger {verdict_id} is already recorded")
            self._writer.put(entry, hurry=hurry)
            self._open.add(verdict_id)
        return entry.done

    def verdict(self, verdict_id: str, content: VerdictContent) -> Future[None]:
        """Complete a trigger with its one verdict. The future completes when the verdict is
        durable.

        Raises PublishError if the trigger is unknown or already has its verdict.
        """
        entry = Entry(as_json(content), Kind.VERDICT, verdict_id, time.monotonic())
        with self._writer.changed:
            if verdict_id not in self._open:
                raise PublishError(f"verdict {verdict_id}: no open trigger has this id")
            self._writer.put(entry)
            self._open.remove(verdict_id)
        return entry.done

    def knows(self, verdict_id: str) -> bool:
        """Whether its trigger was accepted, in this epoch or any that the ledger still holds.
        Raises PublishError if the ledger cannot be read."""
        with self._writer.changed:
            if verdict_id in self._open:
                return True
        try:
            with self._read_lock:
                return ledger.has_verdict(self._reader, verdict_id)
        except sqlite3.Error as error:
            raise PublishError(f"outbox {self._path} cannot be read: {error}") from error

    def part(self, content: PartContent) -> Future[None]:
        """Add the verdict on a part."""
        return self._add(Kind.PART, content)

    def overrule(self, content: OverruleContent) -> Future[None]:
        """Add a person's word on a view in REVIEW."""
        return self._add(Kind.OVERRULE, content)

    def event(
        self,
        event: str,
        detail: str = "",
        *,
        severity: Severity = Severity.INFO,
        camera: str | None = None,
    ) -> Future[None]:
        """Add an event, such as ``ledger-gap``."""
        return self._add(Kind.EVENT, an_event(event, detail, severity, camera))

    def status(self) -> OutboxStatus:
        with self._writer.changed:
            return OutboxStatus(
                epoch=self.epoch,
                waiting=self._writer.waiting,
                open_triggers=len(self._open),
                free_bytes=self._free.bytes,
                space=self.space(),
                fault=self._writer.fault,
            )

    @property
    def fault(self) -> str | None:
        """Why nothing can be recorded any more, or None. A restart may open the ledger again."""
        return self._writer.fault

    def line_behind(self, behind: bool) -> None:
        """Whether frames queue before the engine. While they do, what is recorded waits some
        milliseconds for more, so that one sync serves all of it."""
        self._writer.behind = behind

    @property
    def turns(self) -> int:
        """How many turns the writer's thread has made, for the watchdog."""
        return self._writer.turns

    def space(self) -> Space:
        """How much space the disk has left."""
        squeezed, free = self._writer.squeezed, self._free.bytes
        if squeezed or free < self._room.full_bytes:
            return Space.FULL
        return Space.LOW if free < self._room.low_bytes else Space.OK

    def on_commit(self, call: Callable[[], None]) -> None:
        """Call ``call`` on the writer's thread after each commit that added messages; it must not
        block."""
        self._writer.on_commit = call

    @property
    def newest(self) -> int:
        """The row of the last committed message: nothing waits behind it."""
        return self._writer.newest

    def waiting(self, after: int, limit: int, held: Sequence[Kind] = ()) -> list[Stored]:
        """The next committed messages to send after row ``after``, in order. A message whose hash
        does not match is reported by a ``ledger-gap`` event instead."""
        # Messages that left before this snapshot are known here, or already marked in the ledger.
        with self._writer.changed:
            settled = self._writer.settled
        try:
            with self._read_lock:
                found = ledger.waiting(self._reader, after, limit + len(settled), held)
        except sqlite3.Error as error:
            raise PublishError(f"outbox {self._path} cannot be read: {error}") from error
        found = [message for message in found if message.row not in settled][:limit]
        for message in found:
            if not message.whole:
                self._writer.settle([message.row], ledger.DAMAGED)
                self.event(
                    "ledger-gap",
                    f"{message.kind.value} {message.seq} of epoch {message.epoch} (verdict "
                    f"{message.verdict_id}) was damaged on disk and is not sent",
                    severity=Severity.ALARM,
                )
        return [message for message in found if message.whole]

    def delivered(self, rows: Sequence[int]) -> None:
        """Mark messages as acknowledged by the broker."""
        self._writer.settle(rows, ledger.DELIVERED)

    def acknowledged(self, epoch: str, kind: Kind, upto: int) -> None:
        """Mark the messages of a kind and epoch up to this number as recorded by the plant."""
        self._writer.acknowledge(epoch, kind, upto)

    def wait_delivered(self, timeout_s: float) -> bool:
        """Wait until nothing is left to write or to send; False if the time ran out."""
        with self._writer.changed:
            return self._writer.changed.wait_for(lambda: self._writer.idle, timeout_s)

    def close(self) -> None:
        """Commit the queue and close the file. An entry that cannot be written fails its future."""
        with self._read_lock:
            self._opened.close()

    def __enter__(self) -> Outbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _add(
        self, kind: Kind, content: PartContent | EventContent | OverruleContent
    ) -> Future[None]:
        entry = Entry(as_json(content), kind, None, time.monotonic())
        with self._writer.changed:
            self._writer.put(entry)
        return entry.done

    def _begin_epoch(self) -> None:
        unfinished, damaged = self._writer.unfinished()
        self._writer.start(first_entries(self._writer.gap, unfinished, damaged), damaged)


def _lock(path: Path) -> int:
    fd = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise PublishError(
            f"outbox {path}: another process has it open. Stop that station, or give this one its "
            "own state_dir"
        ) from error
    return fd
