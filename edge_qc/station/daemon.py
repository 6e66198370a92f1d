"""The daemon: signals, the watchdog and the exit status around one run of the line.

A signal handler only sets a flag; the line sees it and drains.
"""

from __future__ import annotations

import gc
import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import cv2

from edge_qc.errors import DeviceError
from edge_qc.line import Line
from edge_qc.settings import Settings
from edge_qc.station.opening import open_station
from edge_qc.system.notify import notify, watchdog_interval_s
from edge_qc.system.watchdog import Watch

log = logging.getLogger(__name__)


def run(settings: Settings, until_end: bool = False) -> int:
    """Open the station, run its line until SIGTERM or SIGINT, and drain. Returns the exit status.

    until_end: stop once every camera has reached the end of its source. A second signal stops at
    once. Raises EdgeQCError if the station cannot be opened, or a device failed for good.
    """
    # OpenCV would wake a thread of its own for each view, which costs a tenth of all that a verdict
    # takes and saves no time beside a busy engine.
    cv2.setNumThreads(1)
    stop = threading.Event()
    with _signals(stop), open_station(settings, stop) as line:
        notify("READY=1", f"STATUS=judging with {line.engine_name}")
        # What is there by now stays; to look through it for garbage, again and again, would hold
        # the line for tens of milliseconds each time.
        gc.collect()
        gc.freeze()
        with _watchdog(line):
            line.run(stop, until_end=until_end)
        notify("STOPPING=1")
        if line.failure is not None:
            raise DeviceError(line.failure)
    return 0


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    def ask(signum: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        log.info("%s: stopping, no more frames are accepted", signal.Signals(signum).name)
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _watchdog(line: Line) -> Iterator[None]:
    """Notify systemd's watchdog while every loop advances."""
    interval_s = watchdog_interval_s()
    if interval_s is None:
        yield
        return
    done = threading.Event()

    def tell() -> None:
        watch = Watch(line_s=interval_s / 2)
        before: list[str] = []
        while not done.wait(interval_s / 2):
            hung = watch.hung(line.loops(), time.monotonic())
            if not hung:
                notify("WATCHDOG=1")
            elif hung != before:
                log.error(
                    "hangs: %s; systemd's watchdog is no longer notified and will restart "
                    "the station",
                    ", ".join(hung),
                )
            before = hung

    thread = threading.Thread(target=tell, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
