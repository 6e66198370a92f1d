"""Disks that fill, fail, flip bits or come back from last week: nothing is lost in silence."""

from __future__ import annotations

import random
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.faults.disks import SickDisk, copy_ledger, flip_bits, put_back, small_disk
from tests.faults.sabotage import RARE_POINTS
from tests.faults.world import World, open_world, wait
from tests.rig.programs import need, needs

pytestmark = [
    pytest.mark.broker,
    pytest.mark.faults,
    needs("mosquitto"),
]

MB = 2**20
CORRUPTION = [name for name in RARE_POINTS if "aside" in name or "salvag" in name]


@contextmanager
def armed(folder: Path, *points: str) -> Iterator[World]:
    """A world whose station has given verdicts. points: where its first process dies, its second,
    …; empty for nowhere."""
    left = list(points)

    def environment() -> Mapping[str, str]:
        point = left.pop(0) if left else ""
        return {"FAULTS_POINT": f"{point}:1"} if point else {}

    with open_world(folder, environment=environment) as world:
        world.station.begin()
        more(world)
        yield world


def more(world: World, count: int = 100) -> None:
    world.station.resume()
    assert world.await_verdicts(count), f"no verdicts come:\n{world.log_tail()}"


def gaps(world: World) -> int:
    return sum(event["event"] == "ledger-gap" for event in world.book.events)


def test_a_disk_that_fills_and_is_relieved(quick_folder: Path) -> None:
    """DEGRADED, then FAULT; triggers are refused, accepted ones keep their verdict, on a disk
    without a single free byte, through a restart on it; and then it goes on."""
    with small_disk(quick_folder / "disk", 64) as disk:
        if disk is None:
            pytest.skip("needs the right to mount a tmpfs in a namespace of its own")
        with open_world(
            quick_folder / "world",
            state_dir=disk.path / "state",
            prefix=disk.prefix,
            line="[evidence]\nmin_free_mb = 0",
            environment=lambda: {"FAULTS_ROOM": f"{24 * MB},{8 * MB},{4 * MB}"},
        ) as world:
            world.station.begin()
            more(world)
            for leave, state in ((16 * MB, "DEGRADED"), (2 * MB, "FAULT"), (0, "FAULT")):
                disk.fill(leave)
                assert wait(lambda state=state: world.ear.states[-1:] == [state]), state
                time.sleep(0.5)
            world.station.kill()
            assert wait(lambda: world.station.starts == 2)
            time.sleep(4)
            disk.relieve()
            more(world)
            assert wait(lambda: world.ear.states[-1:] == ["RUNNING"]), world.ear.states
            world.settle()
            assert world.breaches() == []


@pytest.mark.parametrize("how", ["write", "sync", "read"])
def test_a_disk_that_fails_and_recovers(quick_folder: Path, how: str) -> None:
    """EIO from the outbox's files for seconds: a station that cannot write says so and ends, its
    service manager starts it until it can, and it is itself again without a person."""
    disk = SickDisk(quick_folder, need("cc"))
    with open_world(quick_folder / "world", environment=lambda: disk.environment) as world:
        world.station.begin()
        for _ in range(2):
            more(world)
            falls = len(world.station.falls)
            disk.fall_sick(how)
            if how == "read":
                time.sleep(1.5)  # What is cached is read from there.
            else:
                assert wait(lambda falls=falls: len(world.station.falls) >= falls + 2)
            disk.recover()
        more(world)
        world.settle()
        assert world.breaches() == []
        assert gaps(world) == 0
        assert set(world.station.falls) <= {1}
        assert world.station.hangs == 0
        assert "Traceback" not in world.log_tail(10_000)


def test_flipped_bits_are_never_silent(quick_folder: Path) -> None:
    """Bits flipped in the ledger and its log while the station is down: whatever is gone, an event
    says so; nothing altered is sent, and nothing becomes GOOD."""
    dice = random.Random(1)
    with open_world(quick_folder, watchdog_s=5) as world:
        world.station.begin()
        for number in range(8):
            more(world)
            world.proxy.cut(away=True)
            time.sleep(0.3)
            world.station.kill(hold=True)
            world.proxy.heal()
            for name in ("outbox.sqlite", "outbox.sqlite-wal"):
                if (world.state_dir / name).exists():
                    flip_bits(world.state_dir / name, (1, 4, 16, 64)[number % 4], dice)
            world.station.release()
        more(world)
        world.settle()
        lost = world.journal().durable - set(world.book.verdicts)
        sys.stderr.write(f"{len(lost)} lost, {gaps(world)} gaps told\n")
        assert world.breaches(losses_announced=True) == []


def test_an_older_ledger_is_noticed(quick_folder: Path) -> None:
    """A copy from before put back, or no file at all: a new epoch, and a gap that is told."""
    with open_world(quick_folder) as world:
        world.station.begin()
        more(world)
        world.station.kill(hold=True)
        copy_ledger(world.state_dir, quick_folder / "old")
        world.station.release()
        more(world)
        world.station.kill(hold=True)
        put_back(quick_folder / "old", world.state_dir)
        world.station.release()
        more(world)
        assert wait(lambda: gaps(world) == 1)
        world.station.kill(hold=True)
        for file in world.state_dir.glob("outbox.sqlite*"):
            if file.suffix not in (".mark", ".lock"):
                file.unlink()
        world.station.release()
        more(world)
        assert wait(lambda: gaps(world) == 2)
        world.settle()
        assert world.breaches(losses_announced=True) == []


@pytest.mark.parametrize("point", [name for name in RARE_POINTS if name not in CORRUPTION])
def test_killed_while_it_stops(quick_folder: Path, point: str) -> None:
    with armed(quick_folder, point) as world:
        world.station.ask_to_stop()
        assert wait(lambda: world.station.starts == 2), f"{point} was not reached"
        assert world.station.kills == 1
        more(world)
        world.settle()
        assert world.breaches() == []


@pytest.mark.parametrize("point", CORRUPTION)
def test_killed_while_it_sets_a_corrupt_ledger_aside(quick_folder: Path, point: str) -> None:
    """Twice interrupted is still not silent."""
    with armed(quick_folder, "", point) as world:
        world.proxy.cut(away=True)
        time.sleep(0.3)
        world.station.kill(hold=True)
        world.proxy.heal()
        corrupt(world.state_dir / "outbox.sqlite")
        world.station.release()
        assert wait(lambda: world.station.starts == 3), f"{point} was not reached"
        more(world)
        world.settle()
        lost = world.journal().durable - set(world.book.verdicts)
        sys.stderr.write(f"{point}: {len(lost)} lost, {gaps(world)} gaps told\n")
        assert gaps(world) >= 1
        assert world.breaches(losses_announced=True) == []


def corrupt(ledger: Path) -> None:
    """The log brought home first: its copy of a page would hide the damage."""
    with closing(sqlite3.connect(ledger)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with ledger.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 300)
