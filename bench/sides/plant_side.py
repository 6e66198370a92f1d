"""The plant's side of a bench: a broker's settings, the recorder's process, and what each uses."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

BROKER = (
    # As deploy/mosquitto says for stations with recorder = true; TLS is each station's own cost.
    "persistence true",
    "autosave_on_changes false",
    "max_queued_messages 0",
    "max_inflight_messages 100",
    "set_tcp_nodelay true",
)
_TICKS = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def recording(broker: str, database: str) -> Iterator[subprocess.Popen[str]]:
    """``edge-qc record`` as a process of its own, once it is subscribed."""
    command = [sys.executable, "-m", "edge_qc.cli", "record", "--broker", broker]
    process = subprocess.Popen(
        [*command, "--database", database], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        if not said.startswith("recording"):
            raise SystemExit(f"the recorder does not start: {said}{process.stderr.read()}")
        yield process
    finally:
        process.terminate()
        process.wait(60)


def await_page(port: int, within_s: float = 60.0) -> None:
    """Until a server of this machine answers there. Raises OSError if it does not in time."""
    until_s = time.monotonic() + within_s
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2).close()
            return
        except OSError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.2)


class Spent:
    """What the processes of a plant use between ``begin`` and ``end``. cores: seconds of CPU a
    second, by process."""

    def __init__(self, recorder: int, **others: int) -> None:
        """recorder, others: process ids, by what they are. The broker and PostgreSQL are children
        of this process."""
        self._pids = {"recorder": [recorder], **{name: [pid] for name, pid in others.items()}}
        for pid in _children(os.getpid()):
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            if name in ("mosquitto", "postgres"):
                self._pids[name] = [pid]
        self.cores: dict[str, float] = {}

    def begin(self) -> None:
        self._began_s, self._before = time.monotonic(), self._used_s()

    def end(self) -> None:
        took_s = time.monotonic() - self._began_s
        after = self._used_s()
        self.cores = {name: (after[name] - used) / took_s for name, used in self._before.items()}

    def said(self) -> str:
        return ", ".join(f"{name} {share:.2f}" for name, share in self.cores.items())

    def peak_mb(self, name: str = "recorder") -> float:
        """The most memory that a process has had, in 10⁶ bytes."""
        status = Path(f"/proc/{self._pids[name][0]}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6

    def _used_s(self) -> dict[str, float]:
        used = {name: sum(map(_cpu_s, pids)) for name, pids in self._pids.items()}
        if "postgres" in self._pids:
            used["postgres"] += sum(map(_cpu_s, _children(self._pids["postgres"][0])))
        return used | {"the stations": time.process_time()}


def _children(pid: int) -> list[int]:
    found = subprocess.run(
        ["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return [int(one) for one in found.split() if Path(f"/proc/{one}/comm").exists()]


def _cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has had; 0 if it has ended."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    return 0.0
