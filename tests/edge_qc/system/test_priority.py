"""A thread's niceness."""

from __future__ import annotations

import os
import threading

import pytest

from edge_qc.system.priority import FIRST, LAST, niceness, set_nice


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


def test_a_thread_is_as_before_behind_it() -> None:
    """What it starts then goes no sooner than others."""
    seen: list[int] = []

    def step_back_for_a_while() -> None:
        for change in (0, 5):
            before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
            with niceness(min(before + change, 19)):
                seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    may_go_back = os.geteuid() == 0
    thread = threading.Thread(target=step_back_for_a_while)
    thread.start()
    thread.join()
    start = seen[0]
    assert seen == [start, start, min(start + 5, 19), start if may_go_back else min(start + 5, 19)]


def test_where_it_is_not_permitted_a_thread_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an ordinary user without a limit that lets it, or in a unit that forbids the calls."""
    asked: list[int] = []

    def refused(_which: int, _who: int, *nice: int) -> None:
        asked.extend(nice)
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "setpriority", refused)
    monkeypatch.setattr(os, "getpriority", refused)
    set_nice(FIRST)
    with niceness(FIRST):
        pass
    assert asked == [FIRST, FIRST, 0]
