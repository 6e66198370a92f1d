"""A campaign: lives of the station, each ended by a kill, with the broker, the network and the
cameras failing beside it. Everything is drawn from one seed; what the machine makes of it is not.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.faults.sabotage import ONCE, POINTS, WITH_RECORDER, WITHOUT_RECORDER
from tests.faults.world import World, wait

FRAME_FAULTS = {
    "nan": 0.004,
    "inf": 0.004,
    "shape": 0.002,
    "error": 0.002,
    "black": 0.004,
    "white": 0.004,
    "stale": 0.004,
}


def cameras(count: int = 3) -> list[str]:
    """Sources of the campaign's cameras, the last one a live one that the line may overrun."""
    faults = "".join(f"&fault.{name}={share}" for name, share in FRAME_FAULTS.items())
    live = f"load:live=1&pause=0.01{faults}"
    return [*(f"load:live=0&part=16{faults}" for _ in range(count - 1)), live]


@dataclass
class Tally:
    """What was done, counted by name."""

    kills: Counter[str] = field(default_factory=Counter)
    mischief: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    unreached: Counter[str] = field(default_factory=Counter)


class Campaign:
    """Use ``environment`` as the world's, then ``run``."""

    def __init__(self, seed: int, *, recorder: bool) -> None:
        """recorder: one acknowledges, and the broker may be killed too, which may lose what it has
        taken; without one it is the broker's word that lets messages go."""
        self.tally = Tally()
        self.points = {*POINTS, *(WITH_RECORDER if recorder else WITHOUT_RECORDER)}
        self._recorder = recorder
        self._dice = random.Random(seed)
        self._armed: str | None = None
        self._next: str | None = None
        self._left = sorted(self.points)
        self._dice.shuffle(self._left)

    def environment(self) -> Mapping[str, str]:
        """Of the next process: the fail point that is next, once."""
        self._armed, self._next = self._next, None
        if self._armed is None:
            return {}
        return {"FAULTS_POINT": f"{self._armed}:{self._nth(self._armed)}"}

    def run(self, world: World, *, kills: int, verdicts: int, timeout_s: float) -> None:
        """Until so many kills and verdicts, or the time is over; then everything is healed, and the
        station runs."""
        until_s = time.monotonic() + timeout_s
        self._arm()
        world.station.begin()
        while self._left or sum(self.tally.kills.values()) < kills:
            if time.monotonic() > until_s:
                break
            self._live(world)
        world.proxy.heal()
        wait(lambda: world.station.ready, 30)
        while world.heard < verdicts and time.monotonic() < until_s:
            self._disturb(world)
            world.await_verdicts(500, 2.0)
        world.proxy.heal()
        if world.recorder is not None:
            world.recorder.start()
        wait(lambda: world.station.ready, 60)

    def _live(self, world: World) -> None:
        """One life of the station."""
        station, starts = world.station, world.station.starts
        point = self._armed
        if point is not None:
            # It may die before it is ready, and a busy machine may take its time with either.
            wait(lambda: station.starts > starts or station.ready, 60)
            if wait(lambda: station.starts > starts, 15):
                self.tally.points[point] += 1
                self.tally.kills["station at a fail point"] += 1
            else:
                self.tally.unreached[point] += 1
                self._left.insert(0, point)
                self._kill(world)
            return
        wait(lambda: station.ready, 60)
        for _ in range(self._dice.randint(0, 2)):
            time.sleep(self._dice.uniform(0.02, 0.3))
            self._disturb(world)
        time.sleep(self._dice.uniform(0.02, 0.4))
        self._kill(world)

    def _kill(self, world: World) -> None:
        self._arm()
        starts = world.station.starts
        if self._dice.random() < 0.1:
            world.station.ask_to_stop()
            time.sleep(self._dice.uniform(0.0, 0.3))
        if world.station.kill():
            self.tally.kills["station at random"] += 1
        wait(lambda: world.station.starts > starts, 10)

    def _arm(self) -> None:
        """Every fail point once, in every other life."""
        if self._left:
            self._next = self._left.pop()

    def _nth(self, point: str) -> int:
        return 1 if point in ONCE else self._dice.randint(1, 25)

    def _disturb(self, world: World) -> None:
        deeds: dict[str, Callable[[World], None]] = {
            "kill-broker": self._kill_broker,
            "kill-recorder": self._kill_recorder,
            "kill-camera": self._kill_camera,
            "cut": lambda world: world.proxy.cut(),
            "reset": lambda world: world.proxy.reset(),
            "away": self._away,
            "deaf": self._deaf,
            "half-open": self._half_open,
            "swallow": self._swallow,
            "delay": self._delay,
        }
        weights = [3.0 * self._recorder, 3.0 * self._recorder, 3, 1, 1, 1, 1, 0.3, 1, 1]
        (name,) = self._dice.choices(list(deeds), weights)
        deeds[name](world)
        if not name.startswith("kill"):
            self.tally.mischief[name] += 1

    def _kill_broker(self, world: World) -> None:
        world.broker.kill()
        time.sleep(self._dice.choice([0.0, 0.0, 0.2]))
        world.broker.start()
        if world.recorder is not None:
            world.recorder.start()
        self.tally.kills["broker"] += 1

    def _kill_recorder(self, world: World) -> None:
        if world.recorder is not None:
            world.recorder.kill()
            world.recorder.start()
            self.tally.kills["recorder"] += 1

    def _kill_camera(self, world: World) -> None:
        if world.kill_a_camera():
            self.tally.kills["camera process"] += 1

    def _away(self, world: World) -> None:
        world.proxy.cut(away=True)
        time.sleep(self._dice.uniform(0.05, 0.3))
        world.proxy.heal()

    def _deaf(self, world: World) -> None:
        world.proxy.deaf = True
        time.sleep(self._dice.uniform(0.05, 0.3))
        world.proxy.heal()

    def _half_open(self, world: World) -> None:
        world.proxy.mute = True
        time.sleep(self._dice.uniform(0.2, 1.5))
        world.proxy.heal()

    def _swallow(self, world: World) -> None:
        world.proxy.swallow = 0.3
        time.sleep(self._dice.uniform(0.05, 0.3))
        world.proxy.heal()

    def _delay(self, world: World) -> None:
        world.proxy.delay_s = 0.02
        time.sleep(self._dice.uniform(0.05, 0.3))
        world.proxy.heal()
