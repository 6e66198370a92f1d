"""Writes files that appear complete or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

from edge_qc.errors import EdgeQCError
from edge_qc.system import whole_file

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_whole(file: Path, content: bytes, full: str = "Make room and call again") -> None:
    """Write beside the file's name, flush to the disk, rename: a kill or a full disk leaves the
    previous one. Makes the folder. full: what to do next where the disk is full. Raises EdgeQCError
    if it is, or refuses."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        whole_file.write_whole(file, content)
    except OSError as error:
        raise _refused(file, len(content), error, full) from error


def _refused(file: Path, size: int, error: OSError, full: str) -> EdgeQCError:
    try:
        before = "The previous one is whole. " if file.exists() else ""
    except OSError:
        before = ""
    way_out = full if error.errno in _FULL else "Correct the folder, or name another"
    return EdgeQCError(
        f"{file}: cannot be written ({error.strerror}); {size / 2**20:.1f} MiB are needed. "
        f"{before}{way_out}"
    )
