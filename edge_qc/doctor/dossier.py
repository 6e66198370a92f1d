"""What a device sends back after its commissioning: a few JSON files and a log in one archive.

It is opened by hand, so it is a ``.tar.gz`` with one folder in it. No image goes into it, and the
home folder's path, which holds a user's name, is written as ``~``.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from edge_qc.errors import DataError, UsageError
from edge_qc.system.machine import Machine

SCHEMA = "edge-qc/commissioning/1"


def default_archive(machine: Machine) -> Path:
    """A name that says which board and which day."""
    model = machine.model if machine.model != "unknown" else machine.cpu
    board = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")[:40].strip("-") or machine.arch
    day = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    return Path(f"edge-qc-commission-{board}-{day}.tar.gz")


def require_writable(archive: Path) -> None:
    """Raise UsageError where the archive could not be written, before minutes are spent."""
    folder = archive.resolve().parent
    if archive.exists():
        raise UsageError(f"archive {archive}: is there already. Give another --out, or remove it")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"archive {archive}: {folder} cannot be written. Give another --out")


def write_dossier(archive: Path, files: Mapping[str, object]) -> None:
    """Write the archive. files: by name; text as it is, anything else as JSON.

    Raises DataError if it cannot be written; an incomplete one is removed.
    """
    folder = archive.name.removesuffix(".tar.gz")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
            raw = _without_home(text).encode()
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(raw)
            tar.addfile(member, io.BytesIO(raw))
    partial = archive.with_name(f".{archive.name}.partial")
    try:
        partial.write_bytes(packed.getvalue())
        os.replace(partial, archive)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"archive {archive}: cannot be written: {error}") from error


def _without_home(text: str) -> str:
    try:
        home = str(Path.home())
    except RuntimeError:  # an account without a home folder
        return text
    return text if home == "/" else text.replace(home, "~")
