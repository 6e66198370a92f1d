"""Files that are whole whatever happens: the previous one until the new one is on the disk."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

PARTIAL = ".new"
"""How the names of files end that a crash left half written."""


def write_whole(file: Path, content: bytes, mode: int | None = None) -> None:
    """Write beside the file's name, flush to the disk, rename. mode: its permissions, None as the
    process's umask has them. Raises OSError; nothing is left behind then but by a crash."""
    partial = file.with_name(f".{file.name}.{os.getpid()}{PARTIAL}")
    try:
        with suppress(FileNotFoundError):
            os.unlink(partial)
        # Never readable by more than the file is to be, and never through somebody's link.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(partial, flags, 0o666 if mode is None else 0o600), "wb") as stream:
            stream.write(content)
            stream.flush()
            if mode is not None:
                os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(partial, file)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial)
        raise
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and new files in a folder durable. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
