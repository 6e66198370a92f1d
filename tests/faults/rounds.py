"""A round: the least of a campaign that gives every kind of mistake a chance to show."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from tests.faults.processes import ROOT
from tests.faults.world import World, open_world, wait

CAMERAS = (
    "load:live=0&part=8&fault.nan=0.03&fault.black=0.02",
    "load:live=0&part=8&fault.inf=0.02&fault.stale=0.03",
    "load:live=0",
    "load:live=0",
)
ROUNDS = 6


def first_breach(folder: Path, *, source: Path = ROOT, rounds: int = ROUNDS) -> str:
    """What the referee says first in so many rounds; empty where it says nothing.

    source: the folder that holds the ``edge_qc`` to run. Raises AssertionError where a process of
    the station ran another one, or where a round comes to no end and the referee has nothing to
    say: a station that does not work is no mistake caught.
    """
    points = itertools.cycle(({"FAULTS_POINT": "commit-begun:30"}, {}))
    with open_world(
        folder,
        cameras=CAMERAS,
        path=(source, ROOT),
        environment=lambda: next(points),
        drain_s=2.5,
        line="queue = 8",
    ) as world:
        world.station.begin()
        for _ in range(rounds):
            failure = None
            try:
                _round(world)
            except AssertionError as error:
                failure = error
            assert world.journal().code == {(source / "edge_qc").resolve()}, world.log_tail()
            if found := world.breaches():
                return found[0]
            if failure is not None:
                raise failure
        assert any(verdict.label == "GOOD" for verdict in world.book.verdicts.values())
    return ""


def _round(world: World) -> None:
    """Work, a kill in the midst of a commit, a network that swallows; a kill, and all of it once
    more; a stop in order."""
    _work(world)
    world.station.kill()
    _work(world)
    world.settle()


def _work(world: World) -> None:
    # Every other process, the first one too, is armed to die in a commit.
    world.station.resume()
    assert wait(lambda: world.station.starts % 2 == 0), f"it did not die:\n{world.log_tail()}"
    world.station.resume()
    assert world.await_verdicts(60), f"no verdicts come:\n{world.log_tail()}"
    _swallow(world)


def _swallow(world: World) -> None:
    """Answers do not come, while the station has something to say."""
    world.proxy.mute = True
    assert world.await_triggers(60), f"no triggers are accepted:\n{world.log_tail()}"
    time.sleep(0.1)
    world.proxy.heal()
    assert world.await_verdicts(60), f"no verdicts come:\n{world.log_tail()}"
