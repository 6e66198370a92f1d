"""A pin as a trigger, over a stand-in for the kernel's request. Not yet run on hardware."""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from edge_qc.camera import Backoff
from edge_qc.camera.gpio import PinWatch
from edge_qc.errors import SettingsError
from edge_qc.output.pin import PinConnection
from edge_qc.settings import OutputTable
from edge_qc.settings.triggering import Pin
from tests.rig.publishing import wait_until

gpiod = pytest.importorskip("gpiod", reason="needs gpiod: pip install '.[gpio]'")


class Request:
    """What the kernel gives for a requested pin: edges, numbered from 1."""

    def __init__(self) -> None:
        self.edges: queue.Queue[Any] = queue.Queue()
        self.number = 0
        self.released = False

    def edge(self, lost_before: int = 0, age_s: float = 0.0) -> None:
        self.number += 1 + lost_before
        at_ns = int((time.monotonic() - age_s) * 1e9)
        self.edges.put(
            gpiod.EdgeEvent(gpiod.EdgeEvent.Type.RISING_EDGE.value, at_ns, 17, 1, self.number)
        )

    def unplug(self) -> None:
        self.edges.put(OSError(19, "No such device"))

    def wait_edge_events(self, timeout_s: float) -> bool:
        until_s = time.monotonic() + timeout_s
        while self.edges.empty() and time.monotonic() < until_s:
            time.sleep(0.002)
        return not self.edges.empty()

    def read_edge_events(self) -> list[Any]:
        event = self.edges.get()
        if isinstance(event, OSError):
            raise event
        return [event]

    def __enter__(self) -> Request:
        return self

    def __exit__(self, *error: object) -> None:
        self.released = True


class Kernel:
    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.requests: list[Request] = []
        self.busy = 0

    def request_lines(self, path: str, **how: Any) -> Request:
        self.asked.append((path, how))
        if self.busy:
            self.busy -= 1
            raise OSError(16, "Device or resource busy")
        self.requests.append(Request())
        return self.requests[-1]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(gpiod, "request_lines", made.request_lines)
    return made


@pytest.fixture
def heard() -> Iterator[SimpleNamespace]:
    """A watch of one pin, and what it told."""
    told = SimpleNamespace(edges=[], lost=[], troubles=[])
    told.watch = PinWatch(
        Pin("/dev/gpiochip0", 17, "falling", 2.0, "pull-up"),
        told.edges.append,
        told.lost.append,
        told.troubles.append,
        Backoff(0.01, 0.02),
    )
    yield told
    told.watch.stop()


def test_the_pin_is_requested_as_the_settings_say(kernel: Kernel, heard: Any) -> None:
    heard.watch.start()
    wait_until(lambda: kernel.requests)
    ((chip, how),) = kernel.asked
    ((line, asked),) = how["config"].items()
    assert (chip, line, how["consumer"]) == ("/dev/gpiochip0", 17, "edge-qc")
    assert asked.edge_detection is gpiod.line.Edge.FALLING
    assert asked.bias is gpiod.line.Bias.PULL_UP
    assert asked.debounce_period.total_seconds() == 0.002
    assert asked.event_clock is gpiod.line.Clock.MONOTONIC


def test_each_edge_is_told_once_with_its_age_and_lost_ones_are_counted(
    kernel: Kernel, heard: Any
) -> None:
    heard.watch.start()
    wait_until(lambda: kernel.requests)
    (request,) = kernel.requests
    request.edge()
    request.edge(age_s=2.0)
    request.edge(lost_before=3)
    wait_until(lambda: len(heard.edges) == 3)
    assert heard.edges[0] < 1.0
    assert heard.edges[1] >= 2.0
    assert heard.lost == [3]
    assert heard.troubles == [None]


def test_a_pin_that_goes_away_is_told_and_requested_again(kernel: Kernel, heard: Any) -> None:
    heard.watch.start()
    wait_until(lambda: kernel.requests)
    kernel.busy = 2
    kernel.requests[0].unplug()
    wait_until(lambda: len(kernel.requests) == 2)
    wait_until(lambda: heard.troubles[-1] is None)
    kernel.requests[1].edge()
    wait_until(lambda: heard.edges)
    assert kernel.requests[0].released
    assert "No such device" in heard.troubles[1]
    assert "no other program holds the pin" in heard.troubles[2]


def test_an_edge_that_cannot_be_handled_does_not_end_the_watch(kernel: Kernel) -> None:
    edges = []

    def handle(age_s: float) -> None:
        edges.append(age_s)
        raise RuntimeError("seeded")

    watch = PinWatch(Pin("/dev/gpiochip0", 17), handle, lambda _: None, lambda _: None)
    watch.start()
    wait_until(lambda: kernel.requests)
    kernel.requests[0].edge()
    kernel.requests[0].edge()
    wait_until(lambda: len(edges) == 2)
    watch.stop()


def test_without_gpiod_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, heard: Any) -> None:
    monkeypatch.setitem(sys.modules, "gpiod", None)
    with pytest.raises(SettingsError, match=r"pip install 'gpiod.*\(in a clone"):
        heard.watch.start()


def test_libgpiod_1_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch, heard: Any) -> None:
    """Debian's python3-gpiod was a module of the same name with other contents."""
    old = ModuleType("gpiod")
    old.__file__ = "/usr/lib/python3/dist-packages/gpiod.so"
    monkeypatch.setitem(sys.modules, "gpiod", old)
    monkeypatch.delitem(sys.modules, "gpiod.line")
    output = OutputTable(name="ejector", target="gpio:/dev/gpiochip0/18", deadline_ms=100)
    for needs in (heard.watch.start, lambda: PinConnection.check(output)):
        with pytest.raises(SettingsError, match=r"gpiod\.so, is of libgpiod 1 .*libgpiod 2.*gpiod"):
            needs()


def test_no_error_ends_the_watch(
    kernel: Kernel, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody foresaw is trouble that people see, and the pin is requested again."""

    def broken(path: str, **how: Any) -> Request:
        monkeypatch.setattr(gpiod, "request_lines", kernel.request_lines)
        raise AttributeError("seeded")

    monkeypatch.setattr(gpiod, "request_lines", broken)
    heard.watch.start()
    wait_until(lambda: kernel.requests)
    kernel.requests[0].edge()
    wait_until(lambda: heard.edges)
    assert "gpio:/dev/gpiochip0/17: cannot be watched" in heard.troubles[0]
    assert "seeded" in heard.troubles[0]
    assert heard.troubles[1:] == [None]
