"""A thread's niceness."""

from __future__ import annotations

import os
import threading

from edge_qc.system.priority import FIRST, LAST, set_nice


def test_one_thread_steps_back_and_no_other() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    seen: list[int] = []

    def step_back() -> None:
        set_nice(LAST)
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    thread = threading.Thread(target=step_back)
    thread.start()
    thread.join()
    assert seen == [LAST] or before > LAST
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_where_it_is_not_permitted_a_thread_goes_on() -> None:
    """As an ordinary user without a limit that lets it."""
    done: list[bool] = []

    def step_forward() -> None:
        set_nice(FIRST)
        done.append(True)

    thread = threading.Thread(target=step_forward)
    thread.start()
    thread.join()
    assert done == [True]
