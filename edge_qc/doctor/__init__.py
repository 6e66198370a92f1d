"""``edge-qc doctor``: checks everything that a station depends on.

Each check is a function that returns findings and never raises, on a Jetson or elsewhere. It may
use any room; no room knows about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_qc.doctor import board, broker, bundles, cameras, outputs, software, storage, surroundings
from edge_qc.doctor.finding import NOT_A_JETSON, Finding, Status, bad
from edge_qc.doctor.station_user import as_station
from edge_qc.settings import Settings
from edge_qc.system.machine import ROOT, Machine, this_machine

__all__ = ["CHECKS", "Finding", "Patient", "Status", "examine"]


@dataclass(frozen=True, slots=True)
class Patient:
    """What to examine. settings: None without a station.toml. root: replaces ``/`` in tests."""

    machine: Machine
    settings: Settings | None
    root: Path = ROOT

    @property
    def spared(self) -> str | None:
        """Why TensorRT and CUDA are not needed here; None if they are."""
        if self.settings is not None and self.settings.engine.kind != "tensorrt":
            return "this station's engine is ONNX Runtime"
        if self.settings is None and not self.machine.is_jetson:
            return f"{NOT_A_JETSON}, and no station.toml asks for it"
        return None


CHECKS: tuple[Callable[[Patient], Iterable[Finding]], ...] = (
    lambda patient: board.jetpack(patient.machine),
    lambda patient: board.power_mode(patient.machine, patient.settings),
    lambda patient: board.clocks(patient.machine, patient.root),
    lambda patient: board.heat(patient.root),
    lambda patient: board.over_current(patient.machine, patient.root),
    lambda patient: software.python(patient.machine, patient.spared),
    lambda patient: software.tensorrt(patient.spared, patient.machine),
    lambda patient: software.cuda(patient.spared),
    lambda patient: software.preflight(),
    lambda patient: software.opencv(patient.settings),
    lambda patient: as_station(storage.state(patient.settings)),
    lambda patient: as_station(storage.plans(patient.settings)),
    lambda patient: as_station(bundles.slots(patient.settings)),
    lambda patient: as_station(cameras.sources(patient.settings, patient.root)),
    lambda patient: broker.reach(patient.settings),
    lambda patient: outputs.reach(patient.settings),
    lambda patient: surroundings.clock(),
    lambda patient: surroundings.unit(patient.settings),
)
"""In the order of the output."""


def examine(settings: Settings | None, root: Path = ROOT) -> Iterator[Finding]:
    """Yield each finding as soon as it is known; some take seconds. settings: None without a
    station.toml."""
    patient = Patient(this_machine(root), settings, root)
    for check in CHECKS:
        try:
            yield from check(patient)
        except Exception as error:  # a page with one line less is better than none
            yield bad("doctor", f"a check failed: {error!r}", "report this line as a bug")
