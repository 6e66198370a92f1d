"""Writes files that appear complete or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from edge_qc.errors import EdgeQCError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_whole(file: Path, content: bytes) -> None:
    """Write beside the file's name, flush to the disk, rename: a kill or a full disk leaves the
    previous one. Makes the folder. Raises EdgeQCError if the disk is full or refuses."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, file)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise _refused(file, partial, len(content), error) from error


def _refused(file: Path, partial: Path, size: int, error: OSError) -> EdgeQCError:
    try:
        partial.unlink(missing_ok=True)
        before = "The previous one is whole. " if file.exists() else ""
    except OSError:
        before = ""
    way_out = "Make room and go on with --resume"
    if error.errno not in _FULL:
        way_out = "Correct the folder, or name another"
    return EdgeQCError(
        f"{file}: cannot be written ({error.strerror}); {size / 2**20:.1f} MiB are needed. "
        f"{before}{way_out}"
    )
