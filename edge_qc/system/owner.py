"""Whose a station's folder is: what another user writes there, its own may not change."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def other_owner(folder: Path) -> str | None:
    """The name of the user to whom the folder belongs, if that is not whoever asks; None too where
    there is no such folder, or nobody here has that number, as in a container."""
    try:
        number = folder.stat().st_uid
        return None if number == os.geteuid() else pwd.getpwuid(number).pw_name
    except (OSError, KeyError):
        return None
