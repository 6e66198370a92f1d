"""An output in this very process, without a line: results offered by hand, and what it told."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edge_qc.output import Outputs, Result, map_of
from edge_qc.output.layout import RegisterMap
from edge_qc.parts import Disposition, Reason
from edge_qc.settings import PART, Settings
from edge_qc.system.state import State
from tests.rig.stations import settings_in

SOON_S = 20.0


def result(
    disposition: Disposition = Disposition.PASS,
    *,
    part_id: str | None = "W27-000001",
    trigger_id: str = "t.1",
    age_s: float = 0.0,
    block: str = PART,
    label: str | None = None,
) -> Result:
    """A verdict whose trigger came ``age_s`` ago."""
    passes = disposition is Disposition.PASS
    return Result(
        block=block,
        disposition=disposition,
        label=label or ("GOOD" if passes else "flat"),
        number=1 if passes else 2,
        reason=Reason.DECIDED,
        trigger_id=trigger_id,
        part_id=part_id,
        triggered_s=time.monotonic() - age_s,
    )


class Rig:
    """outputs: they run. events: by name and detail, in order."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.events: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self.outputs = Outputs(settings, self._tell)

    def _tell(self, event: str, detail: str, severity: str) -> None:
        with self._lock:
            self.events.append((event, detail))

    @property
    def map(self) -> RegisterMap:
        return map_of(self.settings, self.settings.output[0])

    def said(self, event: str) -> list[str]:
        return [detail for name, detail in list(self.events) if name == event]

    def wait(self, happened: Callable[[], object], timeout_s: float = SOON_S) -> None:
        until_s = time.monotonic() + timeout_s
        while not happened():
            assert time.monotonic() < until_s, f"it did not happen; {self.events}"
            time.sleep(0.002)

    def connected(self) -> bool:
        return all(figures.connected for figures in self.outputs.figures().values())


@contextlib.contextmanager
def running_outputs(folder: Path, *tables: dict[str, Any], **more: Any) -> Iterator[Rig]:
    """Outputs of these tables, RUNNING and connected where they can be."""
    settings = settings_in(
        folder,
        output=[{"name": "plc", "deadline_ms": 5000, "heartbeat_ms": 50, **t} for t in tables],
        **more,
    )
    rig = Rig(settings)
    rig.outputs.start()
    try:
        rig.outputs.station(State.RUNNING)
        yield rig
    finally:
        rig.outputs.close()
