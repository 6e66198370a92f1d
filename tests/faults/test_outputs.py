"""The controller and the network to it killed, delayed, half-opened and reset, the station killed:
never PASS for a part that is none, never after its deadline or twice, safe after every crash."""

from __future__ import annotations

import contextlib
import itertools
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pymodbus", reason="needs pymodbus: pip install '.[modbus]'")

from edge_qc.output import map_of
from edge_qc.output.block import STATES
from edge_qc.output.layout import RegisterMap
from edge_qc.settings import read_settings
from edge_qc.system.state import State
from tests.faults.gate import Troubles, breaches, results
from tests.faults.mutants import Mutant, seeded
from tests.faults.output_mutants import OUTPUT_MUTANTS
from tests.faults.processes import ROOT
from tests.faults.world import World, open_world, wait
from tests.rig.controllers import ModbusController, modbus_controller
from tests.rig.programs import lacking
from tests.rig.proxy import Proxy

pytestmark = [
    pytest.mark.broker,
    pytest.mark.faults,
    pytest.mark.skipif(lacking("mosquitto") is not None, reason=str(lacking("mosquitto"))),
]

CAMERAS = ("load:live=0&part=1&pause=0.01&fault.nan=0.05&fault.black=0.05&fault.slow=0.04",)
"""What is slow comes after its deadline, however fast the machine is."""
DEADLINE_MS = 300
_ARMED = 4
"""The last process that is armed to die; those from the second on are."""


class Way:
    """A world with a controller at its end, and what is done to both."""

    def __init__(self, world: World, controller: ModbusController, proxy: Proxy) -> None:
        self.world, self.controller, self.proxy = world, controller, proxy
        settings = read_settings(world.settings)
        self.map: RegisterMap = map_of(settings, settings.output[0])
        self.area = self.map.block("part")
        self.troubles = Troubles()
        self.done: Counter[str] = Counter()

    def passed(self) -> int:
        """How many parts were let through."""
        return sum(one.passed for one in results(self.controller.writes, self.map, self.area))

    def work(self, more: int = 5) -> None:
        """Until so many more parts passed. Raises AssertionError where they do not."""
        goal = self.passed() + more
        assert wait(lambda: self.passed() >= goal, 40), self.world.log_tail()

    def kill(self) -> None:
        starts = self.world.station.starts
        coil = self.area.coil
        assert coil is not None
        # So that a start which does not look at it flips it.
        wait(lambda: self.controller.coils[coil + 1], 5)
        if self.world.station.kill():
            self.troubles.killed_s.append(time.time())
            self.done["station killed"] += 1
        wait(lambda: self.world.station.starts > starts, 20)

    @contextlib.contextmanager
    def disturbed(self, what: str) -> Iterator[None]:
        self.done[what] += 1
        self.troubles.disturbed_s.append(time.time())
        yield
        # What is under way still waits as long as it was told to.
        self.troubles.disturbed_s.append(time.time())
        self.proxy.heal()
        time.sleep(0.15)
        self.troubles.disturbed_s.append(time.time())

    def delay(self, seconds: float) -> None:
        """Every piece waits so long, for a while that has a middle without any change."""
        with self.disturbed("delayed"):
            self.proxy.delay_s = seconds
            time.sleep(3.0)

    def resets(self) -> None:
        """Connections that end while something is on its way: in turn the answer to a coil, and
        whatever it is."""
        for number in range(6):
            with self.disturbed("reset"):
                self.proxy.delay_s = 0.03
                if number % 2:
                    time.sleep(0.15)
                else:
                    self.await_result()
                self.proxy.reset()

    def await_result(self) -> None:
        """Until the next one stands at the controller, or a while where none comes."""
        assert self.area.coil is not None
        toggle = self.area.coil + 1
        before, until_s = self.controller.coils[toggle], time.monotonic() + 5
        while self.controller.coils[toggle] == before and time.monotonic() < until_s:
            time.sleep(0.001)

    def half_open(self) -> None:
        for way in ("mute", "deaf"):
            with self.disturbed(way):
                setattr(self.proxy, way, True)
                time.sleep(0.4)

    def controller_restarts(self) -> None:
        with self.disturbed("controller stopped"):
            self.controller.stop()
            time.sleep(0.2)
            self.controller.start()

    def breach(self) -> str:
        """What the referee says first."""
        with self.world.lock:
            verdicts = {one.trigger_id: one for one in self.world.book.verdicts.values()}
        found = breaches(list(self.controller.writes), self.map, self.area, verdicts, self.troubles)
        return next(found, "")

    def end(self) -> str:
        """An orderly stop, and what the referee says first of all of it."""
        self.world.settle()
        if first := self.breach():
            return first
        assert self.area.coil is not None
        coils = self.controller.coils[self.area.coil : self.area.coil + 3]
        if coils[0] or coils[2]:
            return f"after a stop the coils are {coils}"
        state = self.controller.number(self.area, "state", self.map)
        return "" if state == STATES[State.DEAD] else f"after a stop the state is {state}"


@contextlib.contextmanager
def open_way(folder: Path, source: Path = ROOT) -> Iterator[Way]:
    points = itertools.chain([{}, *[{"FAULTS_TORN": "6"}] * 3], itertools.repeat({}))
    with modbus_controller() as controller:
        proxy = Proxy(controller.address, mqtt=False)
        output = (
            f'part_dies = ["Die01"]\nqueue = 8\n[[output]]\nname = "plc"\n'
            f'target = "modbus://127.0.0.1:{proxy.address[1]}"\ndeadline_ms = {DEADLINE_MS}\n'
            'of = ["part"]\ntext_registers = 32\nhold_ms = 8\ntimeout_ms = 250\n'
            "late_in_a_row = 1000\nheartbeat_ms = 100\n"
        )
        try:
            with open_world(
                folder,
                cameras=CAMERAS,
                path=(source, ROOT),
                environment=lambda: next(points),
                drain_s=2.5,
                line=output,
            ) as world:
                yield Way(world, controller, proxy)
        finally:
            proxy.close()


def first_breach(folder: Path, source: Path = ROOT) -> str:
    """What the referee says first in one round; empty where it says nothing."""
    with open_way(folder, source) as way:
        way.world.station.begin()
        deeds = (
            lambda: None,
            *[lambda: way.delay(0.11)] * 3,
            way.resets,
            way.kill,  # The next process is armed to die with a PASS half written.
            lambda: _died(way),
            way.half_open,
            way.controller_restarts,
            way.kill,
        )
        for deed in deeds:
            try:
                way.work()
            except AssertionError:
                if first := way.breach():
                    return first
                raise
            deed()
            if first := way.breach():
                # A verdict may be heard a little after it was shown.
                way.world.await_verdicts(20, 10.0)
                time.sleep(0.3)
                if first := way.breach():
                    return first
        assert way.world.journal().code == {(source / "edge_qc").resolve()}
        sys.stderr.write(f"{way.passed()} parts passed; {dict(way.done)}\n")
        return way.end()


def _died(way: Way) -> None:
    """They have died by themselves, each at a moment that only it knows."""
    assert wait(lambda: way.world.station.starts > _ARMED, 60), way.world.log_tail()
    way.done["killed in a transaction"] += _ARMED - 1


def test_nothing_passes_that_must_not(quick_folder: Path) -> None:
    assert first_breach(quick_folder / "world") == ""


@pytest.mark.parametrize(
    "mutant", OUTPUT_MUTANTS, ids=lambda mutant: re.sub(r"\W+", "-", mutant.name)
)
def test_a_seeded_mistake_is_caught(quick_folder: Path, mutant: Mutant) -> None:
    """In one of three rounds: whether it shows depends on what comes when."""
    source = seeded(mutant, quick_folder)
    rounds = (first_breach(quick_folder / f"world-{number}", source) for number in range(3))
    breach = next(filter(None, rounds), "")
    sys.stderr.write(f"{mutant.name}: {breach}\n")
    assert breach, "the referee saw nothing"
