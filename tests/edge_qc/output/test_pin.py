"""A pin as output, through the real libgpiod, over a chip that stands in for the kernel's below the
C library. Not yet run on hardware."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.rig.programs import find, needs
from tests.rig.publishing import wait_until

pytest.importorskip("gpiod", reason="needs gpiod: pip install '.[gpio]'")
COMPILER = find("cc")
RIG = Path(__file__).parents[2] / "rig"
ROOT = RIG.parents[1]

pytestmark = [
    needs("cc"),
    pytest.mark.skipif(
        not Path("/usr/include/linux/gpio.h").exists(),
        reason="needs linux/gpio.h: apt install linux-libc-dev",
    ),
]

SHOW = """
import json, sys, time
from pathlib import Path
from edge_qc.parts import Disposition
from tests.rig.outlets import result, running_outputs

table = json.loads(sys.argv[2])
with running_outputs(Path(sys.argv[1]), table) as rig:
    rig.wait(rig.connected)
    print("ready", flush=True)
    belts = [outlet for _, outlet in rig.outputs.encoders()]
    for belt in belts:
        belt.encoder_trouble(None)
    for line in sys.stdin:
        what, number = line.split()
        if what == "edges":
            for _ in range(int(number)):
                belts[0].edge(time.monotonic())
        elif what == "lost":
            belts[0].edges_lost(f"{number} were lost")
        elif what == "unread":
            belts[0].encoder_trouble("the chip is gone")
        elif what == "read":
            belts[0].encoder_trouble(None)
        else:
            rig.outputs.offer(result(Disposition(what), age_s=float(number)))
            # Another one would take its place while the output's thread has not seen it.
            rig.wait(lambda: not any(belt._slots for belt in belts))
        print(time.monotonic(), flush=True)
"""


class Pin:
    """A process that holds an output pin, told dispositions and the belt's edges by ``say``."""

    def __init__(self, folder: Path, **keys: Any) -> None:
        self.levels_file = folder / "levels"
        library = folder / "kernel.so"
        assert COMPILER is not None
        subprocess.run(
            [COMPILER, "-shared", "-fPIC", "-Wall", "-Werror", "-o", library,
             RIG / "gpio_kernel.c", "-ldl"],
            check=True,
        )  # fmt: skip
        chip = "/dev/gpiochip-stand-in"
        table = {"name": "gate", "target": f"gpio:{chip}/27", "deadline_ms": 5000, **keys}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SHOW, str(folder), json.dumps(table)],
            env={
                **os.environ,
                "LD_PRELOAD": str(library),
                "EDGE_QC_CHIP": chip,
                "EDGE_QC_EDGES": str(folder / "edges"),
                "EDGE_QC_ASKED": str(folder / "asked"),
                "EDGE_QC_LEVELS": str(self.levels_file),
                "PYTHONPATH": str(ROOT),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def say(self, what: str, number: float = 0) -> float:
        """Offer a result with its age, or let something happen at the belt; when that was
        (``time.monotonic``)."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what} {number}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def levels(self, line: int = 27) -> list[tuple[float, int]]:
        """When which level was set, in order; the first is the request's own."""
        rows = [row.split() for row in self.levels_file.read_text().splitlines()]
        return [(int(at) / 1e9, int(level)) for at, on, level in rows if int(on) == line]

    def changes(self) -> list[int]:
        """The levels without repetitions."""
        found: list[int] = []
        for _, level in self.levels():
            if found[-1:] != [level]:
                found.append(level)
        return found

    def end(self) -> None:
        self.process.communicate("", timeout=30)


def test_a_pass_is_one_pulse_and_a_reject_none(tmp_path: Path) -> None:
    pin = Pin(tmp_path, pulse_ms=60)
    assert pin.levels()[0][1] == 0, "safe from the request on"
    pin.say("REJECT")
    pin.say("REVIEW", 0.1)
    pin.say("PASS", 9.0)
    time.sleep(0.2)
    assert pin.changes() == [0], "late is no pass either"
    pin.say("PASS")
    wait_until(lambda: pin.changes() == [0, 1, 0])
    up, down = (at for at, level in pin.levels()[-2:])
    assert down - up >= 0.06
    pin.end()
    assert pin.changes() == [0, 1, 0]


def test_the_pulse_comes_when_the_part_is_at_the_ejector(tmp_path: Path) -> None:
    pin = Pin(tmp_path, deadline_ms=100, delay_ms=400, pulse_ms=100)
    said_s = pin.say("PASS")
    wait_until(lambda: pin.changes() == [0, 1, 0])
    up = next(at for at, level in pin.levels() if level)
    assert 0.4 - 0.01 <= up - said_s < 0.4 + 0.05
    pin.say("PASS", 0.2)  # Known after its deadline, though long before it is at the ejector.
    time.sleep(0.6)
    assert pin.changes() == [0, 1, 0]
    pin.end()


def test_with_an_encoder_the_pulse_comes_when_the_belt_has_brought_the_part(
    tmp_path: Path,
) -> None:
    """Whatever the belt's speed: it may stand still meanwhile."""
    pin = Pin(tmp_path, encoder="gpio:/dev/gpiochip1/5", delay_edges=10, pulse_ms=200)
    pin.say("edges", 500)
    pin.say("PASS")
    pin.say("edges", 6)
    pin.say("REJECT")
    pin.say("edges", 3)
    time.sleep(0.4)
    assert pin.changes() == [0], "the belt stands: the part is not there"
    at_s = pin.say("edges", 1)
    wait_until(lambda: pin.changes() == [0, 1, 0])
    up = next(at for at, level in pin.levels() if level)
    assert up - at_s < 0.1, "within half the pulse"
    pin.say("edges", 100)
    time.sleep(0.1)
    assert pin.changes() == [0, 1, 0], "the second one is a REJECT"
    pin.say("PASS", 9.0)
    pin.say("edges", 100)
    time.sleep(0.1)
    assert pin.changes() == [0, 1, 0], "known after its deadline"
    pin.end()


def test_parts_that_were_under_way_when_edges_were_lost_are_rejected(tmp_path: Path) -> None:
    pin = Pin(tmp_path, encoder="gpio:/dev/gpiochip1/5", delay_edges=10, pulse_ms=200)
    for happening in ("lost", "unread"):
        pin.say("PASS")
        pin.say("edges", 5)
        pin.say(happening, 3)
        if happening == "unread":
            pin.say("PASS")
            pin.say("read")
        time.sleep(0.4)
        pin.say("PASS", 2.0)  # Triggered before, known after.
        pin.say("edges", 100)
        time.sleep(0.4)
        assert pin.changes() == [0], happening
    pin.say("PASS")
    pin.say("edges", 10)
    wait_until(lambda: pin.changes() == [0, 1, 0])
    pin.end()


def test_a_low_pass_rests_high_and_a_stop_ends_a_pulse(tmp_path: Path) -> None:
    pin = Pin(tmp_path, active="low", pulse_ms=60_000)
    assert pin.levels()[0][1] == 1
    pin.say("PASS")
    wait_until(lambda: pin.changes() == [1, 0])
    pin.end()
    assert pin.changes() == [1, 0, 1]


def test_the_watchdog_relay_is_fed_while_parts_may_pass_and_not_after_a_kill(
    tmp_path: Path,
) -> None:
    """What a killed process leaves at the pin nobody sets: the relay's time runs out."""
    pin = Pin(tmp_path, alive=22, pulse_ms=60_000, heartbeat_ms=20)
    wait_until(lambda: len(pin.levels(22)) > 5)
    assert {level for _, level in pin.levels(22)} == {0, 1}
    pin.say("PASS")
    wait_until(lambda: pin.changes() == [0, 1])
    pin.process.send_signal(signal.SIGKILL)
    pin.process.wait()
    fed = len(pin.levels(22))
    time.sleep(0.1)
    assert len(pin.levels(22)) == fed
    assert pin.changes() == [0, 1], "the stand-in shows what ExecStopPost= and the relay are for"
