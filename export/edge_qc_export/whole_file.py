"""Writes files that appear complete or not at all, and asks beforehand whether it can."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from edge_qc.errors import EdgeQCError, UsageError
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


def require_writable(folder: Path, what: str) -> None:
    """Raise UsageError where no file can be written in ``folder``, or no such folder can be made.
    Makes nothing, so that a call that is wrong otherwise leaves nothing behind. what: names the
    folder in the error, such as ``bundle runs/a``."""
    require_utf8(folder, what)
    whole = folder.absolute()
    # os.path.exists: False below a folder that cannot be entered, where Path.exists raises.
    above = next(place for place in (whole, *whole.parents) if os.path.exists(place))
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        why = "cannot be written" if above.is_dir() else "is a file"
        raise UsageError(f"{what}: {above} {why}. Give another --out")


def require_utf8(path: Path, what: str) -> None:
    """Raise UsageError for a path that no document of ours can name. what: names it in the
    error."""
    if not is_utf8(str(path)):
        raise UsageError(
            f"{readable(what)}: the name is not UTF-8, and no file could name it. "
            "Rename it, or name another"
        )


def is_utf8(name: str) -> bool:
    """Whether a file's name, as Python reads it from the disk, can be written as UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def readable(text: str) -> str:
    """The text with escapes for what cannot be written as UTF-8."""
    return text.encode(errors="backslashreplace").decode()


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
