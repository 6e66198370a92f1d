"""``edge-qc`` as it is, noting when each message was acknowledged: ``FILE run --config …``.

With STUB_MS in the environment, an engine that sleeps for so long and always answers the same takes
the place of the accepted one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_qc import cli
from edge_qc.inspection.inspecting import Inspection
from edge_qc.line import Line
from edge_qc.publisher import Outbox

noted: list[tuple[float, list[int]]] = []
delivered = Outbox.delivered


def timed(outbox: Outbox, rows: Sequence[int]) -> None:
    noted.append((time.time(), list(rows)))
    delivered(outbox, rows)


Outbox.delivered = timed  # type: ignore[method-assign]


class Stub:
    """Answers as the engine answers a grey view."""

    def __init__(self, inspection: Inspection, seconds: float) -> None:
        spec = inspection.bundle.manifest.input
        grey = np.full((1, 1, spec.height, spec.width), 128, np.uint8)
        self._engine, self._seconds = inspection.engine, seconds
        self._answer = self._engine.infer(grey)
        self.name = self._engine.name

    def infer(self, views: object) -> object:
        time.sleep(self._seconds)
        return self._answer

    def close(self) -> None:
        self._engine.close()


def run_stubbed(line: Line, *arguments: object, **keys: object) -> None:
    inspection = line.inspection
    inspection.engine = Stub(inspection, float(os.environ["STUB_MS"]) / 1e3)  # type: ignore[assignment]
    run(line, *arguments, **keys)  # type: ignore[arg-type]


run = Line.run
if os.environ.get("STUB_MS"):
    Line.run = run_stubbed  # type: ignore[method-assign, assignment]
target = Path(sys.argv.pop(1))
try:
    cli.main()
finally:
    target.write_text(json.dumps(noted))
