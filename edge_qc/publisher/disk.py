"""What lies beside the ledger so that a disk cannot lose or lie unnoticed: the high-water mark,
the ballast, and how much room is left. What the ledger holds is ``ledger``'s.
"""

from __future__ import annotations

import enum
import os
import zlib
from pathlib import Path


class Space(str, enum.Enum):
    """LOW: evidence should go. FULL: no trigger is accepted any more."""

    OK = "ok"
    LOW = "low"
    FULL = "full"


def free_bytes(folder: Path) -> int:
    """What an unprivileged process may still write to the folder's file system."""
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


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
        marks = [0]
        for slot in range(self._SLOTS):
            text, _, checksum = os.pread(self._fd, 64, slot * self._SLOT).partition(b" ")
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

    def __init__(self, file: Path, size: int) -> None:
        self._file, self._size = file, size

    @property
    def whole(self) -> bool:
        try:
            return self._file.stat().st_size >= self._size
        except OSError:
            return False

    def take(self, spare: int) -> None:
        """Takes the room where that leaves ``spare`` bytes free; else without effect."""
        if self.whole or free_bytes(self._file.parent) < spare + self._size:
            return
        try:
            with open(self._file, "wb") as ballast:
                os.posix_fallocate(ballast.fileno(), 0, self._size)
        except OSError:
            self.free()

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
