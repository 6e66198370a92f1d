"""The disk: space for the outbox and its ballast, and a writable folder for plans."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from edge_qc.doctor.finding import AS_ROOT, NO_SETTINGS, Finding, bad, good, none
from edge_qc.doctor.station_user import may
from edge_qc.engine.plan_cache import PlanCache
from edge_qc.errors import EngineError
from edge_qc.publisher.ledger.disk import free_bytes
from edge_qc.settings import Settings

_LOW_BYTES = 256 << 20
"""The outbox's own limit for a disk that is low."""


def state(settings: Settings | None) -> Iterator[Finding]:
    """The state folder: exists or can be created, writable by this user, with free space."""
    if settings is None:
        yield none("state folder", NO_SETTINGS)
        return
    folder = settings.station.state_dir
    there = _nearest(folder)
    if not may(there, os.W_OK | os.X_OK):
        yield bad(
            "state folder",
            f"{folder}: this user may not write {there}",
            f"sudo install -d -o edge-qc {folder}; or {AS_ROOT}",
        )
        return
    free = free_bytes(there)
    outbox = folder / "outbox.sqlite"
    ballast = outbox.with_name(f"{outbox.name}.ballast")
    kept = "" if not outbox.exists() else (", ballast " + ("there" if ballast.exists() else "gone"))
    seen = f"{folder}: {free >> 20} MB free{kept}"
    if free < _LOW_BYTES:
        yield bad("state folder", seen, "free disk space: below 64 MB triggers are refused")
    elif outbox.exists() and not ballast.exists():
        yield bad(
            "state folder",
            seen,
            "the disk was full: free some space, and the station reserves the ballast again",
        )
    else:
        yield good("state folder", seen)


def plans(settings: Settings | None) -> Iterator[Finding]:
    """Whether the folder of TensorRT plans is writable; tested by writing, since mode bits are not
    enough."""
    if settings is None:
        yield none("plans folder", NO_SETTINGS)
        return
    if settings.engine.kind != "tensorrt":
        yield none("plans folder", "this station's engine is ONNX Runtime")
        return
    folder = settings.station.state_dir / "plans"
    remedy = f"sudo chown -R edge-qc {folder}"
    if not os.path.exists(folder):
        there = _nearest(folder)
        if may(there, os.W_OK | os.X_OK):
            yield good("plans folder", f"{folder}: the first build creates it")
        else:
            yield bad("plans folder", f"{folder}: this user may not write {there}", remedy)
        return
    try:
        PlanCache(folder).prepare(0)
    except EngineError as error:
        yield bad("plans folder", str(error), remedy)
        return
    count = len(list(folder.glob("*.plan")))
    yield good("plans folder", f"{folder}: writable, {count} plan{'s' * (count != 1)}")


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    while not os.path.exists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder
