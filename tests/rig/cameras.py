"""What the tests of cameras share: a camera whose events are kept, and ways to wait."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_qc.camera import Camera, Deliver, Ended, Event, Fault
from edge_qc.parts import Frame

SOON_S = 20.0
"""More than a busy machine needs to start a process; nothing waits this long that works."""


class Watched:
    """A camera whose events are kept."""

    def __init__(self, camera: Camera, deliver: Deliver | None = None) -> None:
        self.camera = camera
        self.events: queue.Queue[Event] = queue.Queue()
        self._also: Deliver = deliver or (lambda _: None)

    def deliver(self, event: Event) -> bool | None:
        recorded = self._also(event)
        self.events.put(event)
        return recorded

    def next(self) -> Event:
        return self.events.get(timeout=SOON_S)

    def frames(self, count: int) -> list[Frame]:
        """The next events, which must be frames."""
        found = [self.next() for _ in range(count)]
        assert all(isinstance(event, Frame) for event in found), found
        return [event for event in found if isinstance(event, Frame)]

    def fault(self) -> Fault:
        """The next fault; frames before it are passed over."""
        until_s = time.monotonic() + SOON_S
        while not isinstance(event := self.next(), Fault):
            assert not isinstance(event, Ended)
            assert time.monotonic() < until_s, "frames, but no fault"
        return event

    def to_end(self) -> list[Event]:
        found = []
        while not isinstance(event := self.next(), Ended):
            found.append(event)
        return found


Start = Callable[..., Watched]


def picture(seed: int, width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(30, 220, (height, width), dtype=np.uint8)


def steps(events: list[Event]) -> list[int]:
    """Which of the video's frames these are."""
    assert all(isinstance(event, Frame) for event in events), events
    return [(int(e.pixels[0, 0]) - 40) // 5 for e in events if isinstance(e, Frame)]


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(happened: Callable[[], bool]) -> None:
    """Wait for it, and fail where it does not happen soon."""
    until_s = time.monotonic() + SOON_S
    while not happened():
        assert time.monotonic() < until_s, "it did not happen"
        time.sleep(0.005)
