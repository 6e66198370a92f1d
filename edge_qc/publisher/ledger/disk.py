"""What lies beside the ledger so that a disk cannot lose or lie unnoticed: the high-water mark,
the ballast, and how much room is left. What the ledger holds is ``ledger``'s.
"""

from __future__ import annotations

import contextlib
import enum
import os
import time
import zlib
from pathlib import Path

_ROOM_FOR_ANYTHING = 2**20


class Space(str, enum.Enum):
    """LOW: evidence should go. FULL: no trigger is accepted any more."""

    OK = "ok"
    LOW = "low"
    FULL = "full"


def free_bytes(folder: Path) -> int:
    """What an unprivileged process may still write to the folder's file system."""
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


class FreeSpace:
    """What is free in a folder, asked of the file system at most twenty times a second: every
    trigger and every turn of the line want to know, and the call takes as long as a decision."""

    _FRESH_S = 0.05

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen = (-1.0, 0)

    @property
    def bytes(self) -> int:
        """See ``free_bytes``. May be asked from any thread."""
        asked_s, free = self._seen
        now_s = time.monotonic()
        if now_s - asked_s > self._FRESH_S:
            free = free_bytes(self._folder)
            self._seen = now_s, free
        return free


def is_full(folder: Path, error: Exception) -> bool:
    """Whether an error of SQLite's means that there is no room. It says so of a file that it
    writes; of the shared memory beside it, it says "disk I/O error"."""
    return "full" in str(error) or free_bytes(folder) < _ROOM_FOR_ANYTHING


class HighWaterMark:
    """How many commits the ledger has made, synced to a file of its own after each.

    A flipped bit in SQLite's write-ahead log makes the commits behind it vanish while
    ``integrity_check`` says ok, and so does an older copy of the file put back; a ledger that is
    behind its mark has lost something. Two slots, written in turn and each with its checksum, so
    that a torn write leaves the other.
    """

    _SLOT, _SLOTS = 4096, 2

    def __init__(self, file: Path) -> None:
        self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        if os.fstat(self._fd).st_size < self._SLOT * self._SLOTS:
            os.posix_fallocate(self._fd, 0, self._SLOT * self._SLOTS)
            os.fsync(self._fd)

    def read(self) -> int:
        """The highest mark that is whole; 0 where there is none."""
        return self._highest(os.pread(self._fd, self._SLOT * self._SLOTS, 0))

    @classmethod
    def peek(cls, file: Path) -> int:
        """The mark in ``file``, which may be another process's."""
        return cls._highest(file.read_bytes())

    @classmethod
    def _highest(cls, data: bytes) -> int:
        marks = [0]
        for slot in range(cls._SLOTS):
            text, _, checksum = data[slot * cls._SLOT :][:64].partition(b" ")
            if text.isdigit() and checksum[:8] == b"%08x" % zlib.crc32(text):
                marks.append(int(text))
        return max(marks)

    def write(self, commits: int) -> None:
        """Sets the mark; durable when this returns."""
        text = b"%d" % commits
        slot = commits % self._SLOTS * self._SLOT
        os.pwrite(self._fd, b"%s %08x\n" % (text, zlib.crc32(text)), slot)
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class Ballast:
    """A file that only takes room, given up when the disk is full: on a full disk SQLite can
    neither insert nor delete nor checkpoint, and the verdicts on accepted triggers still have to
    be written."""

    def __init__(self, ledger: Path, size: int) -> None:
        self._file, self._size = ledger.with_name(f"{ledger.name}.ballast"), size

    def take(self, spare: int) -> bool:
        """Takes the room where that leaves ``spare`` bytes free; whether it is taken now."""
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
        """Gives the room back; False where there was none to give."""
        try:
            had = self._file.stat().st_size > 0
            self._file.unlink()
        except OSError:
            return False
        return had


def sync_folder(folder: Path) -> None:
    """Makes renames and new files in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
