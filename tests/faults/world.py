"""One campaign's world: broker, proxy, station, subscriber and referee, and what can be done to
them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.faults.processes import (
    HOST,
    PATIENCE_S,
    ROOT,
    Broker,
    Ear,
    Recorder,
    Station,
)
from tests.faults.referee import Book, Journal, breaches
from tests.rig.proxy import Proxy
from tests.rig.tiny_bundle import make_bundle

BATCH = 4
HURRY_S = 1.0


class World:
    """Open it with ``open_world``."""

    def __init__(
        self,
        folder: Path,
        stack: ExitStack,
        *,
        cameras: Sequence[str],
        state_dir: Path | None,
        environment: Callable[[], Mapping[str, str]],
        path: Sequence[Path],
        prefix: Sequence[str],
        watchdog_s: float,
        drain_s: float,
        line: str,
        recorder: bool,
    ) -> None:
        self.folder = folder
        self.state_dir = state_dir or folder / "state"
        self.journal_file = folder / "journal"
        self.book = Book()
        self._faults: list[str] = []
        self.lock = threading.Lock()
        self.broker = Broker(folder / "broker", remembers=not recorder)
        stack.callback(self.broker.close)
        self.proxy = Proxy((HOST, self.broker.port))
        stack.callback(self.proxy.close)
        self.ear = Ear(self.broker.port, self.book, self.lock)
        stack.callback(self.ear.close)
        self.recorder = Recorder(self.broker.port, folder) if recorder else None
        if self.recorder is not None:
            stack.callback(self.recorder.close)
            self.recorder.start()
        bundle = make_bundle(folder / "bundle", batch=BATCH)
        settings = folder / "station.toml"
        settings.write_text(
            f'[station]\nsite = "s"\nname = "n"\nstate_dir = "{self.state_dir}"\n'
            f'[bundle]\npath = "{bundle}"\n[engine]\nthreads = 1\n'
            f'[mqtt]\nhost = "{HOST}"\nport = {self.proxy.address[1]}\nkeepalive_s = 2\n'
            f"recorder = {str(recorder).lower()}\n"
            f"[line]\ndrain_s = {drain_s}\nhealth_every_s = 1\n{line}\n"
            + "".join(
                f'[[camera]]\nname = "c{number}"\nsource = "{source}"\ndie = "Die01"\n'
                f"timeout_s = 2.0\n"
                for number, source in enumerate(cameras)
            )
        )
        self.settings = settings
        self.station = Station(
            settings,
            folder,
            environment=lambda: {
                "FAULTS_JOURNAL": str(self.journal_file),
                "FAULTS_HURRY": str(HURRY_S),
                **environment(),
            },
            path=path,
            prefix=prefix,
            watchdog_s=watchdog_s,
        )
        stack.callback(self.station.close)

    @property
    def heard(self) -> int:
        """Verdicts without their repetitions."""
        return len(self.book.verdicts)

    def journal(self) -> Journal:
        return Journal.read(self.journal_file)

    def calm(self) -> None:
        """Cameras without faults from the next start on, which is now."""
        text = re.sub(r"&fault\.\w+=[\d.]+", "", self.settings.read_text())
        self.settings.write_text(text)
        self.station.stop()
        self.station.resume()

    def await_verdicts(self, more: int, timeout_s: float = PATIENCE_S) -> bool:
        """Until so many more were heard; False where the time was too short."""
        goal = self.heard + more
        return wait(lambda: self.heard >= goal, timeout_s)

    def kill_a_camera(self) -> bool:
        """SIGKILL of the process of one camera."""
        children = self.station.children()
        with contextlib.suppress(OSError):
            if children:
                os.kill(children[0], signal.SIGKILL)
                return True
        return False

    def await_triggers(self, more: int) -> bool:
        """Until so many more were accepted."""
        goal = len(self.journal().durable) + more
        return wait(lambda: len(self.journal().durable) >= goal)

    def settle(self) -> None:
        """Waits until all that was accepted so far was heard, stops the station in order, and waits
        for the rest. What has not come where it should is the referee's to say."""
        until_s = time.monotonic() + PATIENCE_S
        self.station.resume()
        come = self._await_owed()
        while True:
            # It may end by a fault of its own in that very moment: it owes its verdicts all the
            # same, and so does one that the broker did not hear to the end.
            if self.station.stop(PATIENCE_S) == 0:
                if left := self._left_open():
                    self._faults.append(f"{left} triggers without a verdict after an orderly stop")
                if left or not come or wait(self._all_heard(), 5.0):
                    return
            assert time.monotonic() < until_s, f"the station does not stop:\n{self.log_tail()}"
            self.station.resume()

    def _await_owed(self) -> bool:
        """Until all that was accepted so far was heard; False where that does not come, although
        the station runs."""
        owed = self.journal().durable
        # Verdicts come in order: behind so many later ones, nothing older is still on its way.
        later = self.heard + len(owed - self._held()) + 500
        come = wait(lambda: owed <= self._held() or (self.recorder is None and self.heard >= later))
        return come and owed <= self._held()

    def _all_heard(self) -> Callable[[], bool]:
        owed = self.journal().durable
        return lambda: owed <= self._held()

    def _left_open(self) -> int:
        """How many triggers the ledger of a station that ended holds without a verdict."""
        ledger = self.state_dir / "outbox.sqlite"
        if not ledger.exists():
            return 0
        with contextlib.closing(sqlite3.connect(ledger)) as database:
            return int(database.execute("SELECT count(*) FROM trigger").fetchone()[0])

    def _held(self) -> set[str]:
        return set(self.book.verdicts) if self.recorder is None else self.recorder.ids()

    def breaches(self, **keys: bool) -> list[str]:
        """What the referee says of all that was heard, and of the recorder's database."""
        journal = self.journal()
        found = list(self._faults)
        if self.recorder is not None:
            recorded = self.recorder.book()
            found += [f"recorder: {fault}" for fault in breaches(journal, recorded, **keys)]
            # A broker that is killed may lose what it passes on; to a recorder it is sent again.
            keys["whole"] = False
        with self.lock:
            return found + list(breaches(journal, self.book, **keys))

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(
            (self.folder / "station.log").read_text(errors="replace").splitlines()[-lines:]
        )


@contextlib.contextmanager
def open_world(
    folder: Path,
    *,
    cameras: Sequence[str] = ("load:live=0&part=8",),
    state_dir: Path | None = None,
    environment: Callable[[], Mapping[str, str]] = dict,
    path: Sequence[Path] = (ROOT,),
    prefix: Sequence[str] = (),
    watchdog_s: float = 10.0,
    drain_s: float = 20.0,
    line: str = "",
    recorder: bool = False,
) -> Iterator[World]:
    """A world whose station is started by ``world.station.begin()``. recorder: a real one runs, the
    station waits for its acknowledgements, and what it holds is what must be whole."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        yield World(
            folder,
            stack,
            cameras=cameras,
            state_dir=state_dir,
            environment=environment,
            path=path,
            prefix=prefix,
            watchdog_s=watchdog_s,
            drain_s=drain_s,
            line=line,
            recorder=recorder,
        )


def wait(true: Callable[[], object], timeout_s: float = PATIENCE_S) -> bool:
    """Until it is true; False where the time was too short."""
    until_s = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > until_s:
            return False
        time.sleep(0.01)
    return True
