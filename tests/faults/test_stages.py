"""Every stage made to raise, to hang, to answer nonsense: one verdict each, never GOOD, and the
station goes on."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.load import CODES, shown
from tests.faults.world import World, open_world, wait
from tests.rig.programs import needs

pytestmark = [
    pytest.mark.broker,
    pytest.mark.faults,
    needs("mosquitto"),
]


def seen(world: World) -> Counter[str]:
    """Verdicts by the fault of what they judge."""
    return Counter(
        shown(verdict.image).fault
        for verdict in list(world.book.verdicts.values())
        if verdict.image
    )


def reasons(world: World) -> Counter[str]:
    """Verdicts on what nobody saw, by their reason."""
    verdicts = list(world.book.verdicts.values())
    return Counter(verdict.reason for verdict in verdicts if verdict.image is None)


def run(world: World, faults: Sequence[str], each: int = 3, cameras_lost: int = 0) -> None:
    """Until every fault had so many verdicts, and GOOD was said after the last one. cameras_lost:
    how many verdicts there must be for a camera that gave nothing."""
    world.station.begin()

    def enough() -> bool:
        faulty = all(seen(world)[fault] >= each for fault in faults)
        return faulty and reasons(world)["camera"] >= cameras_lost

    assert wait(enough, 300), f"{seen(world)} {reasons(world)}\n{world.log_tail()}"
    assert world.await_verdicts(100), f"no verdicts come:\n{world.log_tail()}"
    world.settle()
    sys.stderr.write(f"{world.heard} verdicts, {seen(world)}\n")
    assert world.breaches() == []


def load(share: float, *faults: str) -> str:
    return "load:live=0&" + "&".join(f"fault.{fault}={share}" for fault in faults)


def test_stages_that_raise_or_answer_nonsense(quick_folder: Path) -> None:
    """View, engine and decision raise what nobody thought of, or answer with NaN, infinity and
    wrong shapes: the loop goes on without a restart, but for engines that fail time after time."""
    faults = [name for name in CODES if name not in ("hang", "slow")]
    with open_world(quick_folder, cameras=[load(0.01, *faults), load(0.0, "nan")]) as world:
        run(world, faults)
        assert not world.station.hangs


def test_a_loop_that_hangs_comes_back(quick_folder: Path) -> None:
    """The watchdog falls silent, the service manager kills, the frame is NOT_JUDGED restart."""
    cameras = [load(0.005, "hang"), load(0.0, "nan")]
    with open_world(quick_folder, cameras=cameras, watchdog_s=4) as world:
        run(world, ["hang"], each=2)
        assert world.station.hangs >= 2
        reasons = {
            verdict.reason
            for verdict in world.book.verdicts.values()
            if verdict.image and shown(verdict.image).fault == "hang"
        }
        assert reasons == {"restart"}


def test_cameras_that_fail_are_reopened_while_the_others_run(quick_folder: Path) -> None:
    """An error, a killed process, a read that never returns, black, white and stale frames, and
    pixels of a shape that no frame has."""
    cameras = [
        load(0.01, "gone", "crash"),
        load(0.005, "stuck"),
        load(0.01, "misshapen"),
        load(0.01, "black", "white", "stale"),
    ]
    with open_world(quick_folder, cameras=cameras) as world:
        run(world, ["black", "white", "stale", "misshapen"], cameras_lost=3)
        assert "Traceback" not in world.log_tail(10_000)
        assert world.station.starts == 1


def test_overload_is_said(quick_folder: Path) -> None:
    """Live cameras faster than the line: bounded queues, every frame that came has its verdict or
    is counted as overrun, and what is judged is right."""
    cameras = ["load:live=1&pause=0.0002"] * 2

    def said(reason: str) -> int:
        return sum(verdict.reason == reason for verdict in list(world.book.verdicts.values()))

    with open_world(quick_folder, cameras=cameras, line="queue = 4") as world:
        world.station.begin()
        assert wait(lambda: min(said("overrun"), said("decided")) >= 100), world.log_tail()
        world.settle()
        sys.stderr.write(f"{world.heard} verdicts, {said('decided')} decided\n")
        assert world.breaches() == []
        assert world.station.starts == 1
