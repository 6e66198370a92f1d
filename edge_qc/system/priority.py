"""How urgent a thread is to the machine's scheduler, where others want the same processor."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

FIRST = -10
"""Engine and loop: while one of them waits for a processor, the whole line waits."""
LAST = 10
"""What may wait for as long as the line has work."""


@contextmanager
def niceness(nice: int) -> Iterator[None]:
    """As ``set_nice``, for a while."""
    before = 0
    with suppress(OSError):
        before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    set_nice(nice)
    try:
        yield
    finally:
        set_nice(before)


def set_nice(nice: int) -> None:
    """Set the calling thread's niceness (sched(7)), -20 to 19, lower is more urgent. Without effect
    where the system does not permit it: below 0 it takes root or a unit's ``LimitNICE=``."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
