"""A pin through the real libgpiod, over a chip that stands in for the kernel's below the C library.
Not yet run on hardware."""

from __future__ import annotations

import ctypes
import json
import os
import struct
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

WATCH = """
import json, sys, threading
from edge_qc.camera import Backoff
from edge_qc.camera.gpio import PinWatch
from edge_qc.settings.triggering import triggering

def tell(**what):
    print(json.dumps(what), flush=True)

pin = triggering(sys.argv[1]).pin
watch = PinWatch(pin, lambda age_s: tell(age_s=age_s), lambda count: tell(lost=count),
                 lambda why: tell(trouble=why), Backoff(0.05, 0.1))
watch.start()
sys.stdin.read()
watch.stop()
"""


class Attribute(ctypes.Structure):
    """``struct gpio_v2_line_config_attribute``."""

    _fields_ = (
        ("id", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
        ("value", ctypes.c_uint64),
        ("mask", ctypes.c_uint64),
    )


class Asked(ctypes.Structure):
    """``struct gpio_v2_line_request``, as <linux/gpio.h> has it."""

    _fields_ = (
        ("offsets", ctypes.c_uint32 * 64),
        ("consumer", ctypes.c_char * 32),
        ("flags", ctypes.c_uint64),
        ("num_attrs", ctypes.c_uint32),
        ("padding", ctypes.c_uint32 * 5),
        ("attrs", Attribute * 10),
        ("num_lines", ctypes.c_uint32),
        ("event_buffer_size", ctypes.c_uint32),
        ("more_padding", ctypes.c_uint32 * 5),
        ("fd", ctypes.c_int32),
    )


INPUT, RISING, FALLING, PULL_UP = 1 << 2, 1 << 4, 1 << 5, 1 << 8
DEBOUNCE = 3


class Chip:
    def __init__(self, folder: Path) -> None:
        self.path = "/dev/gpiochip-stand-in"
        self.edges, self.asked_file = folder / "edges", folder / "asked"
        self._library = folder / "kernel.so"
        assert COMPILER is not None
        subprocess.run(
            [COMPILER, "-shared", "-fPIC", "-Wall", "-Werror", "-o", self._library,
             RIG / "gpio_kernel.c", "-ldl"],
            check=True,
        )  # fmt: skip

    def watch(self, pin: str) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "LD_PRELOAD": str(self._library),
            "EDGE_QC_CHIP": self.path,
            "EDGE_QC_EDGES": str(self.edges),
            "EDGE_QC_ASKED": str(self.asked_file),
            "PYTHONPATH": str(ROOT),
        }
        return subprocess.Popen(
            [sys.executable, "-c", WATCH, f"gpio:{self.path}/{pin}"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def asked(self) -> Asked:
        wait_until(lambda: self.asked_file.exists() and self.asked_file.stat().st_size == 592)
        return Asked.from_buffer_copy(self.asked_file.read_bytes())

    def edge(self, number: int, age_s: float = 0.0) -> None:
        """``struct gpio_v2_line_event``."""
        at_ns = int((time.monotonic() - age_s) * 1e9)
        event = struct.pack("=QIIII6I", at_ns, 1, 17, number, number, *[0] * 6)
        with self.edges.open("wb", buffering=0) as fifo:
            fifo.write(event)


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    document: dict[str, Any] = json.loads(process.stdout.readline())
    return document


@pytest.fixture
def chip(tmp_path: Path) -> Chip:
    return Chip(tmp_path)


def test_the_kernel_is_asked_as_the_settings_say_and_edges_come_through(chip: Chip) -> None:
    assert ctypes.sizeof(Asked) == 592
    os.mkfifo(chip.edges)
    process = chip.watch("17?edge=falling&debounce_ms=2.5&bias=pull-up")
    try:
        assert told(process) == {"trouble": None}
        asked = chip.asked()
        assert (asked.num_lines, asked.offsets[0], asked.consumer) == (1, 17, b"edge-qc")
        assert asked.event_buffer_size == 64
        assert asked.flags == INPUT | FALLING | PULL_UP
        attributes = {attribute.id: attribute for attribute in asked.attrs[: asked.num_attrs]}
        assert attributes[DEBOUNCE].value & 0xFFFFFFFF == 2500
        chip.edge(1)
        assert 0 <= told(process)["age_s"] < 5
        chip.edge(4, age_s=60)
        assert told(process) == {"lost": 2}
        assert told(process)["age_s"] >= 60
    finally:
        process.communicate("", timeout=10)
    assert process.returncode == 0


def test_a_pin_may_be_named_and_is_waited_for(chip: Chip) -> None:
    """Another program holds it at first."""
    process = chip.watch("PQ.05")
    try:
        assert "Device or resource busy" in told(process)["trouble"]
        os.mkfifo(chip.edges)
        while (trouble := told(process)["trouble"]) is not None:
            assert "busy" in trouble
        asked = chip.asked()
        assert asked.offsets[0] == 5
        assert asked.flags == INPUT | RISING
        chip.edge(1)
        assert "age_s" in told(process)
    finally:
        process.communicate("", timeout=10)
