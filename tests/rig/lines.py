"""A line in this very process: a tiny bundle, an outbox, cameras that a test fires by hand."""

from __future__ import annotations

import functools
import json
import sqlite3
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_qc.camera import CameraState, CameraStats, Deliver
from edge_qc.inspection.inspecting import open_inspection
from edge_qc.line import Line
from edge_qc.parts import Disposition, Frame
from edge_qc.publisher import Publisher
from edge_qc.settings import LineTable, MqttTable, StationTable
from tests.rig.publishing import open_outbox
from tests.rig.tiny_bundle import SIDE, make_bundle


class HandCamera:
    """A camera of Die01 whose frames a test delivers with ``give``."""

    def __init__(self, name: str = "hand") -> None:
        self.name = name
        self.turns = 0
        self.remembers = False
        self.started = threading.Event()
        self._deliver: Deliver = lambda event: None
        self._count = 0
        self._state = CameraState.STOPPED

    @property
    def stats(self) -> CameraStats:
        return CameraStats(self._state, self._count, 0, 0, 0, None, "", None)

    def start(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._state = CameraState.RUNNING
        self.started.set()

    def stop(self, timeout_s: float = 5.0) -> bool:
        self._state = CameraState.STOPPED
        return True

    def give(self, pixels: NDArray[np.uint8], part_id: str | None = None) -> None:
        self._deliver(frame(pixels, part_id, self.name))
        self._count += 1


def frame(pixels: NDArray[np.uint8], part_id: str | None = None, camera: str = "hand") -> Frame:
    now = datetime.now(timezone.utc)
    return Frame(pixels, camera, "Die01", uuid.uuid4().hex, part_id, 0, now, time.monotonic())


@functools.cache
def pictures() -> dict[Disposition, NDArray[np.uint8]]:
    """A picture that the tiny bundle passes, and one that it rejects."""
    found = {}
    draw = np.random.default_rng(3)
    with tempfile.TemporaryDirectory() as folder:
        inspection = open_inspection(make_bundle(Path(folder) / "bundle"))
        while len(found) < 2:
            quarters = draw.integers(30, 220, (2, 2), np.uint8)
            pixels = np.kron(quarters, np.ones((SIDE // 2, SIDE // 2), np.uint8))
            (verdict,) = inspection.judge([frame(pixels)])
            found[verdict.disposition] = pixels
        inspection.close()
    return found


@contextmanager
def running_line(
    folder: Path,
    *cameras: Any,
    line: LineTable | None = None,
    batch: int = 1,
    **rooms: Any,
) -> Iterator[Line]:
    """The line, running in a thread of its own, without a broker; stopped and drained behind it,
    so that ``messages`` are all there."""
    settings = line or LineTable(drain_s=0.01, part_dies=("Die01",))
    inspection = open_inspection(make_bundle(folder / "bundle", batch=batch))
    with open_outbox(folder) as outbox:
        publisher = Publisher(
            MqttTable(host="127.0.0.1", port=1),
            StationTable(site="s", name="n", state_dir=folder),
            outbox,
        )
        runs = Line(
            inspection=inspection,
            cameras=cameras,
            outbox=outbox,
            publisher=publisher,
            settings=settings,
            **{name: make(outbox) if callable(make) else make for name, make in rooms.items()},
        )
        stop = threading.Event()
        thread = threading.Thread(target=runs.run, args=(stop,))
        thread.start()
        try:
            yield runs
        finally:
            stop.set()
            thread.join(20)
            assert not thread.is_alive()
            runs.close()
            publisher.close()


def messages(folder: Path, kind: str) -> list[dict[str, Any]]:
    """What the line has said so far, in order."""
    database = sqlite3.connect(folder / "outbox.sqlite")
    found = database.execute(
        "SELECT payload FROM message WHERE kind = ? ORDER BY row", (kind,)
    ).fetchall()
    database.close()
    return [json.loads(text) for (text,) in found]
