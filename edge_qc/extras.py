"""What to install for a part of edge-qc that not everybody needs: its extras, by their packages.

Names of packages rather than ``edge-qc[…]``: pip finds them wherever edge-qc itself came from, a
clone, a wheel or a station's wheelhouse.
"""

from __future__ import annotations

import re
import shlex
from importlib import metadata


def how_to_install(extra: str) -> str:
    """The command that brings what ``extra`` of ``edge-qc`` needs, for a message."""
    of_clone = f"in a clone of edge-qc: pip install '.[{extra}]'"
    try:
        wanted = metadata.requires("edge-qc") or []
    except metadata.PackageNotFoundError:
        return of_clone
    packages = [
        line.partition(";")[0].strip()
        for line in wanted
        if re.search(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]", line)
    ]
    return f"pip install {shlex.join(sorted(packages))}   ({of_clone})" if packages else of_clone
