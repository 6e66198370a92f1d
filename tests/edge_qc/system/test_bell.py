"""The bell that wakes a polling thread."""

from __future__ import annotations

import select

from edge_qc.system.bell import Bell


def heard_now(bell: Bell) -> bool:
    return bool(select.select([bell], [], [], 0)[0])


def test_a_bell_rung_often_is_heard_once() -> None:
    bell = Bell()
    assert not heard_now(bell)
    for _ in range(3):
        bell.ring()
    assert heard_now(bell)
    bell.hush()
    assert not heard_now(bell)
    bell.ring()
    assert heard_now(bell)
    bell.close()
    bell.ring()
    bell.hush()
    bell.close()
