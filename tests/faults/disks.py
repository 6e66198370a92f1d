"""Disks to be filled, to fail and to be damaged."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SmallDisk:
    """A tmpfs in a mount namespace of its own. path: as the station sees it, which starts with
    ``prefix``; seen: the same folder from outside."""

    path: Path
    seen: Path
    prefix: tuple[str, ...]

    @property
    def free(self) -> int:
        room = os.statvfs(self.seen)
        return room.f_bavail * room.f_frsize

    def fill(self, leave: int) -> None:
        """A file that leaves so many bytes."""
        with (self.seen / "filler").open("ab") as filler:
            while (missing := self.free - leave) > 0:
                filler.write(b"\1" * min(missing, 2**20))
                filler.flush()

    def relieve(self) -> None:
        (self.seen / "filler").unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk | None]:
    """None where this user may not mount."""
    folder.mkdir()
    script = f'mount -t tmpfs -o size={megabytes}m small "{folder}" && echo mounted && read _'
    holder = subprocess.Popen(
        ["unshare", "-Urm", "--propagation", "private", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        if holder.stdout.readline() != b"mounted\n":
            yield None
            return
        enter = ("nsenter", "-t", str(holder.pid), "-U", "-m", "--preserve-credentials")
        yield SmallDisk(folder, Path(f"/proc/{holder.pid}/root{folder}"), enter)
    finally:
        with contextlib.suppress(OSError):
            holder.stdin.close()
        holder.stdout.close()
        holder.wait()


class SickDisk:
    """See ``sick_disk.c``. environment: what the station must be started with."""

    def __init__(self, folder: Path, compiler: str) -> None:
        library = folder / "sick_disk.so"
        source = Path(__file__).with_name("sick_disk.c")
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-w", "-o", library, source, "-ldl"], check=True
        )
        self._flag = folder / "sick"
        self.environment: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "FAULTS_DISK": str(self._flag),
        }

    def fall_sick(self, how: str) -> None:
        """how: ``write``, ``sync`` or ``read``."""
        self._flag.with_name(f"sick.{how}").touch()

    def recover(self) -> None:
        for how in ("write", "sync", "read"):
            self._flag.with_name(f"sick.{how}").unlink(missing_ok=True)


def flip_bits(file: Path, count: int, dice: random.Random) -> None:
    """So many bits of a file, anywhere in it."""
    data = bytearray(file.read_bytes())
    for _ in range(count if data else 0):
        at = dice.randrange(len(data))
        data[at] ^= 1 << dice.randrange(8)
    file.write_bytes(data)


def copy_ledger(state: Path, target: Path) -> None:
    """The outbox's database as it lies there, its log too, without what lies beside it."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for name in ("outbox.sqlite", "outbox.sqlite-wal"):
        if (state / name).exists():
            shutil.copy(state / name, target)


def put_back(source: Path, state: Path) -> None:
    """An older copy in the place of the outbox's database."""
    for suffix in ("", "-wal", "-shm"):
        (state / f"outbox.sqlite{suffix}").unlink(missing_ok=True)
    for file in source.iterdir():
        shutil.copy(file, state)
