"""A whole station in this very process, without a broker: its bundles in slots, its camera fired by
hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.slots import Slots
from edge_qc.line import Line
from edge_qc.parts import Disposition
from edge_qc.settings import Settings
from edge_qc.station import opening as station
from edge_qc.system.state import State
from tests.rig.lines import HandCamera, messages, pictures

SOON_S = 20.0


def settings_in(folder: Path, **tables: Any) -> Settings:
    document: dict[str, Any] = {
        "station": {"site": "s", "name": "n", "state_dir": folder},
        "camera": [{"name": "hand", "source": "file:///nowhere", "die": "Die01"}],
        "mqtt": {"host": "127.0.0.1", "port": 1},
        "line": {"drain_s": 0.01, "part_dies": ["Die01"], "queue": 64},
    }
    return Settings.model_validate(document | tables)


def put_in(settings: Settings, bundle: Path) -> None:
    """Installed, as by a command while no station runs."""
    slots = Slots.of_station(settings.station.state_dir)
    with slots.locked():
        slots.switch(slots.bring(bundle))


class Station:
    """A running one. ``feed`` gives pictures from a thread of its own until it is left."""

    def __init__(self, line: Line, camera: HandCamera, folder: Path) -> None:
        self.line, self.camera, self.folder = line, camera, folder
        self.given = 0

    @contextmanager
    def feed(
        self,
        *shown: Disposition | NDArray[np.uint8],
        part: Callable[[int], str | None] = lambda n: None,
    ) -> Iterator[None]:
        """In turn, again and again: pictures, or what the tiny bundle decides so."""
        stop = threading.Event()

        def give() -> None:
            while not stop.wait(0.002):
                one = shown[self.given % len(shown)]
                pixels = pictures()[one] if isinstance(one, Disposition) else one
                self.camera.give(pixels, part(self.given))
                self.given += 1

        thread = threading.Thread(target=give)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def wait_until(self, happened: Callable[[], bool]) -> None:
        until_s = time.monotonic() + SOON_S
        while not happened():
            assert time.monotonic() < until_s, "it did not happen"
            time.sleep(0.005)

    def said(self, kind: str) -> list[dict[str, Any]]:
        return messages(self.folder, kind)


@contextmanager
def running_station(settings: Settings, *states: State) -> Iterator[Station]:
    """Stopped and drained behind the block, so that what it said is all there. states: that it may
    come to, by default those in which it judges."""
    camera = HandCamera()
    stop = threading.Event()
    with (
        mock.patch.object(station, "Camera", return_value=camera),
        station.open_station(settings, stop) as line,
    ):
        thread = threading.Thread(target=line.run, args=(stop,))
        thread.start()
        runs = Station(line, camera, settings.station.state_dir)
        try:
            runs.wait_until(lambda: line.state in (states or (State.RUNNING, State.DEGRADED)))
            yield runs
        finally:
            stop.set()
            thread.join(SOON_S)
            assert not thread.is_alive()
