"""The processes of a campaign: a broker that remembers, the sabotaged station under a service
manager of ten lines, and the subscriber that hears for the referee."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.faults.referee import Book
from tests.faults.sabotage import MISARMED
from tests.rig.brokers import HOST, free_port
from tests.rig.programs import find

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0
"""How long is waited for what must happen: a busy machine may take its time."""
FALLS = 10
"""How many falls in a row are no bad luck."""
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def _dies_with_us() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def start(
    command: Sequence[str | Path],
    log: IO[bytes],
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    """A process that does not outlive this one, its words in ``log``. folder: where it starts;
    Python puts it before all else on its path, so a copy of the station is started elsewhere than
    among the sources."""
    return subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        preexec_fn=_dies_with_us,  # noqa: PLW1509 - one system call, nothing imported
    )


class Broker:
    """mosquitto, as it loses least: sessions and queues saved at every change."""

    def __init__(self, folder: Path, *, remembers: bool = True) -> None:
        """remembers: not needed where a recorder acknowledges, and slow when much waits: mosquitto
        writes all that it holds at every change."""
        self.port = free_port()
        self.kills = 0
        folder.mkdir()
        self._settings = folder / "mosquitto.conf"
        self._settings.write_text(
            f"listener {self.port} {HOST}\nallow_anonymous true\nuser root\n"
            f"persistence {str(remembers).lower()}\npersistence_location {folder}/\n"
            "autosave_on_changes true\nautosave_interval 1\nmax_queued_messages 0\n"
            "max_inflight_messages 100\n"
        )
        self._log = (folder / "log").open("wb")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        executable = find("mosquitto")
        assert executable is not None
        self._process = start([executable, "-c", self._settings], self._log)
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1):
                return
            time.sleep(0.01)
        raise AssertionError("mosquitto does not start")

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self.kills += 1

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._log.close()


class Recorder:
    """``edge-qc record`` into a SQLite file."""

    def __init__(self, port: int, folder: Path) -> None:
        self.database = folder / "records.sqlite"
        self._command = [
            sys.executable, "-m", "edge_qc.cli", "record",
            "--broker", f"{HOST}:{port}", "--database", str(self.database),
        ]  # fmt: skip
        self._log = (folder / "recorder.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, also where it ended by itself because the broker was away."""
        if self._process is None or self._process.poll() is not None:
            self._process = start(self._command, self._log, {"PYTHONPATH": str(ROOT)})

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def ids(self) -> set[str]:
        """The verdicts that it holds."""
        return {row[0] for row in self._rows("SELECT verdict_id FROM verdict")}

    def book(self) -> Book:
        """All that it holds, as if heard."""
        book = Book()
        for kind in ("verdict", "part", "event"):
            for (payload,) in self._rows(f"SELECT payload FROM {kind}"):
                book.hear(kind, payload.encode())
        return book

    def close(self) -> None:
        self.kill()
        self._log.close()

    def _rows(self, query: str) -> list[tuple[str, ...]]:
        if not self.database.exists():
            return []
        with contextlib.closing(sqlite3.connect(self.database, timeout=20)) as database:
            try:
                return database.execute(query).fetchall()
            except sqlite3.OperationalError:
                return []  # It has not made its tables yet.


class Ear:
    """A subscriber with a session that outlives the broker, telling a book."""

    def __init__(self, port: int, book: Book, lock: threading.Lock) -> None:
        self._book, self._lock = book, lock
        self._subscribed = threading.Event()
        self.states: list[str] = []
        self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, "referee", protocol=paho.MQTTv5
        )
        self._client.reconnect_delay_set(0.05, 0.2)
        self._client.on_message = self._hear
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_connect = lambda client, *_: client.subscribe("edge-qc/#", 1)
        lasting = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        lasting.SessionExpiryInterval = 3600
        lasting.ReceiveMaximum = 500
        self._client.connect(HOST, port, 10, clean_start=False, properties=lasting)
        self._client.loop_start()
        assert self._subscribed.wait(PATIENCE_S)

    def _hear(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        kind = message.topic.rsplit("/", 1)[1]
        with self._lock:
            if kind == "state":
                self.states.append(
                    message.payload.split(b'"state":"', 1)[1].split(b'"')[0].decode()
                )
            self._book.hear(kind, message.payload)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Station:
    """``edge-qc run`` under a service manager: started again whenever it ends but in order, killed
    where its watchdog falls silent.

    environment: for its first process and each later one, asked anew, so that a fail point is armed
    once. kills: by us; falls: exit statuses other than 0 that were not ours.
    """

    def __init__(
        self,
        settings: Path,
        folder: Path,
        *,
        environment: Callable[[], Mapping[str, str]] = dict,
        watchdog_s: float = 3.0,
        path: Sequence[Path] = (ROOT,),
        prefix: Sequence[str] = (),
    ) -> None:
        self.kills = self.starts = self.hangs = 0
        self.falls: list[int] = []
        self.final: int | None = None
        self._settings, self._environment, self._path = settings, environment, path
        self._prefix = tuple(prefix)
        self._watchdog_s = watchdog_s
        self._folder = folder
        self._log = (folder / "station.log").open("ab")
        self._address = folder / "notify"
        self._notes = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notes.bind(str(self._address))
        self._notes.settimeout(0.02)
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._heard_s = 0.0
        self._stopping = False
        self._hold = False
        self._expected = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._manage, daemon=True)

    def begin(self) -> None:
        self._start()
        self._thread.start()

    @property
    def pid(self) -> int | None:
        with self._lock:
            alive = self._process is not None and self._process.poll() is None
            return self._process.pid if alive and self._process is not None else None

    @property
    def ready(self) -> bool:
        """The line runs."""
        return self._ready and self.pid is not None

    def kill(self, hold: bool = False) -> bool:
        """SIGKILL; False where nothing ran. hold: do not start it again until ``release``."""
        with self._lock:
            if self.pid is None:
                return False
            assert self._process is not None
            self._hold = hold
            self._expected = True
            self._process.kill()
            self._process.wait()
            self.kills += 1
            self._ready = False
            return True

    def ask_to_stop(self) -> None:
        """SIGTERM; started again afterwards."""
        with self._lock:
            if self.pid is not None and self._process is not None:
                self._process.terminate()

    def release(self) -> None:
        self._hold = False

    def resume(self) -> None:
        """After a ``stop`` that was none: start again, until the line runs. Raises AssertionError
        where it gives up or falls at every start: no time mends that."""
        with self._lock:
            self._stopping = False
        fallen = len(self.falls)
        until_s = time.monotonic() + PATIENCE_S
        while not self.ready and time.monotonic() < until_s:
            assert self.final is None, f"the station gave up with exit status {self.final}"
            falls = self.falls[fallen:]
            assert len(falls) < FALLS, f"the station falls at every start: {falls}"
            time.sleep(0.01)

    def stop(self, timeout_s: float = PATIENCE_S) -> int:
        """SIGTERM once the line runs, and the end of it; its exit status."""
        self.resume()
        with self._lock:
            self._stopping = True
            process = self._process
            if process is None:
                return 0
            process.terminate()
        return process.wait(timeout_s)

    def children(self) -> list[int]:
        """The processes of its cameras."""
        pid = self.pid
        found: list[int] = []
        for file in Path(f"/proc/{pid}/task").glob("*/children") if pid is not None else ():
            with contextlib.suppress(OSError):
                found += map(int, file.read_text().split())
        return found

    def close(self) -> None:
        self._stopping = True
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._notes.close()
        self._log.close()

    def _start(self) -> None:
        path = os.pathsep.join(str(folder) for folder in (*self._path, ROOT))
        self._ready = self._expected = False
        self._heard_s = time.monotonic() + PATIENCE_S
        self.starts += 1
        self._process = start(
            [
                *self._prefix,
                sys.executable, "-m", "tests.faults.sabotage", "run", "--config", self._settings,
            ],
            self._log,
            {
                "PYTHONPATH": path,
                "NOTIFY_SOCKET": str(self._address),
                "WATCHDOG_USEC": str(int(self._watchdog_s * 1e6)),
                "OMP_NUM_THREADS": "1",
                **self._environment(),
            },
            self._folder,
        )  # fmt: skip

    def _manage(self) -> None:
        while not self._closed.is_set():
            self._listen()
            with self._lock:
                process = self._process
                if process is None:
                    continue
                status = process.poll()
                if status is None:
                    if time.monotonic() > self._heard_s:
                        self.hangs += 1
                        self._expected = True
                        process.kill()
                    continue
                if self._stopping or self._hold or self.final is not None:
                    continue
                if status in (2, 78, MISARMED):
                    self.final = status
                    continue
                if status == -signal.SIGKILL and not self._expected:
                    self.kills += 1
                elif status not in (0, -signal.SIGKILL):
                    self.falls.append(status)
                self._start()

    def _listen(self) -> None:
        try:
            words = self._notes.recv(4096).decode().splitlines()
        except TimeoutError:
            return
        if "READY=1" in words:
            self._ready = True
        self._heard_s = time.monotonic() + (self._watchdog_s if self._ready else PATIENCE_S)
        if "STOPPING=1" in words:
            self._heard_s = time.monotonic() + PATIENCE_S
