"""Guards the ledger against its disk: the high-water mark, the ballast file, and its room."""

from __future__ import annotations

import contextlib
import enum
import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

_ROOM_FOR_ANYTHING = 2**20


class Space(str, enum.Enum):
    """LOW: delete evidence. FULL: refuse triggers."""

    OK = "ok"
    LOW = "low"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Room:
    """How much disk the outbox may use and must leave free; see ``Outbox.open``."""

    low_bytes: int
    full_bytes: int
    keep_days: float
    keep_bytes: int
    ballast_bytes: int


def free_bytes(folder: Path) -> int:
    """The bytes that an unprivileged process may still write to the folder's file system."""
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


class FreeSpace:
    """A folder's free space, read at most twenty times a second: every trigger and every turn of
    the line asks for it, and the system call takes as long as a decision."""

    _FRESH_S = 0.05

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen = (-1.0, 0)

    @property
    def bytes(self) -> int:
        """As ``free_bytes``; from any thread."""
        asked_s, free = self._seen
        now_s = time.monotonic()
        if now_s - asked_s > self._FRESH_S:
            free = free_bytes(self._folder)
            self._seen = now_s, free
        return free


def is_full(folder: Path, error: Exception) -> bool:
    """Whether an SQLite error means that the disk is full. For its shared-memory file SQLite
    reports only "disk I/O error"."""
    return "full" in str(error) or free_bytes(folder) < _ROOM_FOR_ANYTHING


class HighWaterMark:
    """The number of commits of the ledger, in a file of its own.

    A flipped bit in SQLite's write-ahead log makes all later commits vanish while
    ``integrity_check`` says ok; so does an older copy of the file. A ledger behind its mark has
    lost commits. Two slots, each with a checksum, are written in turn from sync to sync, so that a
    torn write leaves the other. Its sync follows some commits later: a power cut leaves a mark that
    is older, and none that is too high.
    """

    _SLOT, _SLOTS = 4096, 2

    def __init__(self, file: Path) -> None:
        self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        if os.fstat(self._fd).st_size < self._SLOT * self._SLOTS:
            os.posix_fallocate(self._fd, 0, self._SLOT * self._SLOTS)
            os.fsync(self._fd)
        marks = self._marks(os.pread(self._fd, self._SLOT * self._SLOTS, 0))
        self._turn = marks.index(min(marks))
        self._unsynced_s: float | None = None

    def read(self) -> int:
        """The highest undamaged mark, or 0."""
        return max(self._marks(os.pread(self._fd, self._SLOT * self._SLOTS, 0)))

    @classmethod
    def peek(cls, file: Path) -> int:
        """Read the mark in ``file``, which may belong to another process."""
        return max(cls._marks(file.read_bytes()))

    @classmethod
    def _marks(cls, data: bytes) -> list[int]:
        """By slot; 0 for a damaged one."""
        marks = []
        for slot in range(cls._SLOTS):
            text, _, checksum = data[slot * cls._SLOT :][:64].partition(b" ")
            whole = text.isdigit() and checksum[:8] == b"%08x" % zlib.crc32(text)
            marks.append(int(text) if whole else 0)
        return marks

    def write(self, commits: int) -> None:
        """Set the mark: for whoever opens the ledger after a crash at once, for a power cut once it
        is synced."""
        text = b"%d" % commits
        os.pwrite(self._fd, b"%s %08x\n" % (text, zlib.crc32(text)), self._turn * self._SLOT)
        if self._unsynced_s is None:
            self._unsynced_s = time.monotonic()

    @property
    def unsynced(self) -> bool:
        return self._unsynced_s is not None

    def sync(self, older_s: float = 0.0) -> None:
        """Make the mark durable, if it is not and has not been for ``older_s``."""
        if self._unsynced_s is not None and time.monotonic() - self._unsynced_s >= older_s:
            os.fdatasync(self._fd)
            self._unsynced_s = None
            self._turn = (self._turn + 1) % self._SLOTS

    def close(self) -> None:
        """Make the mark durable, as far as the disk lets it, and close its file."""
        with contextlib.suppress(OSError):
            self.sync()
        os.close(self._fd)


class Ballast:
    """A file that only reserves space. It is deleted when the disk is full: SQLite can then
    neither insert nor delete nor checkpoint, yet the verdicts on accepted triggers must still be
    written."""

    def __init__(self, ledger: Path, size: int) -> None:
        self._file, self._size = ledger.with_name(f"{ledger.name}.ballast"), size

    def take(self, spare: int) -> bool:
        """Reserve the space if that leaves ``spare`` bytes free. Returns whether it is reserved
        now."""
        if self._size == 0:
            return True
        with contextlib.suppress(OSError):
            if self._file.stat().st_size >= self._size:
                return True
        if free_bytes(self._file.parent) < spare + self._size:
            return False
        try:
            with open(self._file, "wb") as ballast:
                os.posix_fallocate(ballast.fileno(), 0, self._size)
        except OSError:
            self.free()
            return False
        return True

    def free(self) -> bool:
        """Release the space; False if none was reserved."""
        try:
            had = self._file.stat().st_size > 0
            self._file.unlink()
        except OSError:
            return False
        return had
