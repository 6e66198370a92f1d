"""A round: the least of a campaign that gives every kind of mistake a chance to show."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults.processes import ROOT
from tests.faults.world import World, open_world

CAMERAS = (
    "load:live=0&part=8&fault.nan=0.03&fault.black=0.02",
    "load:live=0&part=8&fault.inf=0.02&fault.stale=0.03",
    "load:live=0",
    "load:live=0",
)
ROUNDS = 4


def first_breach(folder: Path, *, path: Sequence[Path] = (ROOT,), rounds: int = ROUNDS) -> str:
    """What the referee says first in so many rounds; empty where it says nothing."""
    with open_world(folder, cameras=CAMERAS, path=path, drain_s=2.5, line="queue = 8") as world:
        world.station.begin()
        for _ in range(rounds):
            try:
                _round(world)
            except AssertionError as error:
                return f"{error}"
            if found := world.breaches():
                return found[0]
        assert any(verdict.label == "GOOD" for verdict in world.book.verdicts.values())
    return ""


def _round(world: World) -> None:
    """Work, a network that swallows, a kill, work, a stop in order."""
    world.station.resume()
    assert world.await_verdicts(60, 20), f"no verdicts come:\n{world.log_tail()}"
    _swallow(world)
    world.station.kill()
    world.station.resume()
    assert world.await_verdicts(60, 20), f"no verdicts come:\n{world.log_tail()}"
    _swallow(world)
    world.settle(15)


def _swallow(world: World) -> None:
    world.proxy.mute = True
    time.sleep(0.15)
    world.proxy.heal()
    world.await_verdicts(60, 5)
