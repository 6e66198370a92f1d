"""Whether this user may read what a ``file://`` source names."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from edge_qc.errors import CameraError, SettingsError


def require_readable(path: Path, shown: str) -> None:
    """See that this user may read the film, or list the folder and open what is in it. A path with
    nothing there is left to the caller. shown: the source, for the message.

    Raises SettingsError if permission is missing, CameraError for what may pass, such as a share
    that is away.
    """
    wanted = os.R_OK
    try:
        if path.is_dir():
            wanted |= os.X_OK
            # Asked of the folder itself: a share has rules that its mode does not show.
            with os.scandir(path):
                pass
        elif not path.exists():
            return
        if not os.access(path, wanted, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except PermissionError as error:
        raise SettingsError(
            f"camera source {shown}: this user may not read {path} ({error.strerror}). Let the "
            "station's user read it and pass the folders above it, or correct the path"
        ) from error
    except OSError as error:
        raise CameraError(
            f"camera source {shown}: {path} cannot be looked at ({error.strerror or error}). See "
            "that its disk or share is there"
        ) from error
