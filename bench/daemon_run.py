"""A daemon as its users run it, watched from outside, for the benchmarks: see ``daemon_rate``."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from broker import running_broker

TICKS = os.sysconf("SC_CLK_TCK")


def cameras_of(
    images: dict[str, Path], fps: float | None = None
) -> list[tuple[Path, str, float | None]]:
    return [(folder, die, fps) for die, folder in images.items()]


@dataclass
class Run:
    """One life of the daemon. Rates and latencies are there once it has ended."""

    process: subprocess.Popen[bytes]
    state: Path
    acknowledged: Path

    def judged(self) -> int:
        """Verdicts so far; 0 where there is no outbox yet."""
        file = self.state / "outbox.sqlite"
        with contextlib.suppress(sqlite3.OperationalError):
            uri = f"{file.as_uri()}?mode=ro"
            with contextlib.closing(sqlite3.connect(uri, uri=True)) as database:
                found = database.execute("SELECT max(seq) FROM message WHERE kind = 'verdict'")
                return int(found.fetchone()[0] or 0)
        return 0

    def resident(self) -> int:
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def own(self) -> int:
        """Of ``resident``, what no other process can share: all but the pages of libraries."""
        return self._rollup("Anonymous:")

    def share(self) -> int:
        """As ``resident``, but of each page that processes share only this one's part of it."""
        return self._rollup("Pss:")

    def _rollup(self, name: str) -> int:
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        kilobytes = next(line for line in rollup.splitlines() if line.startswith(name))
        return int(kilobytes.split()[1]) * 1024

    def cpu_s(self) -> float:
        """Of the daemon and the camera processes that it has."""
        pids = [str(self.process.pid)]
        for file in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            pids += file.read_text().split()
        total = 0
        for pid in pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def _verdicts(self) -> list[tuple[float, float]]:
        """When each was acknowledged, and when its frame was taken, in order."""
        when = {row: at for at, rows in json.loads(self.acknowledged.read_text()) for row in rows}
        with contextlib.closing(sqlite3.connect(self.state / "outbox.sqlite")) as database:
            rows = database.execute("SELECT row, payload FROM message WHERE kind = 'verdict'")
            return sorted(
                (when[row], datetime.fromisoformat(json.loads(text)["time"]).timestamp())
                for row, text in rows
                if row in when
            )

    def rate(self) -> float:
        """Acknowledged verdicts per second, without the first and last tenth of them."""
        at = [acknowledged for acknowledged, _ in self._verdicts()]
        steady = at[len(at) // 10 : -len(at) // 10]
        return (len(steady) - 1) / (steady[-1] - steady[0])

    def latencies_s(self) -> list[float]:
        return [acknowledged - taken for acknowledged, taken in self._verdicts()]

    def queued_s(self, engine_s: float) -> list[float]:
        """What ``latencies_s`` would be with nothing around the engine: the same frames in a queue
        before one that always takes ``engine_s``."""
        found, free_s = [], 0.0
        for taken in sorted(taken for _, taken in self._verdicts()):
            free_s = max(free_s, taken) + engine_s
            found.append(free_s - taken)
        return found


@contextlib.contextmanager
def running_daemon(
    folder: Path,
    bundle: Path,
    cameras: Sequence[tuple[Path, str, float | None]],
    stub_ms: float | None = None,
) -> Iterator[Run]:
    """From its first verdict on; stopped in order. stub_ms: what sleeps in the engine's place."""
    with tempfile.TemporaryDirectory(dir=folder) as name, running_broker() as (host, port):
        home = Path(name)
        settings = home / "station.toml"
        tables = "".join(
            f'[[camera]]\nname = "c{number}"\nsource = "file://{source}"\ndie = "{die}"\n'
            f"loop = true\n{f'fps = {fps}' if fps else ''}\n"
            for number, (source, die, fps) in enumerate(cameras)
        )
        settings.write_text(
            f'[station]\nsite = "s"\nname = "n"\nstate_dir = "{home / "state"}"\n'
            f'[bundle]\npath = "{bundle}"\n[engine]\nthreads = 1\n'
            f'[mqtt]\nhost = "{host}"\nport = {port}\n{tables}'
        )
        timed = Path(__file__).parent / "sides" / "timed_daemon.py"
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    sys.executable, timed, home / "acknowledged.json",
                    "run", "--config", settings,
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "STUB_MS": str(stub_ms or "")},
            )  # fmt: skip
        run = Run(process, home / "state", home / "acknowledged.json")
        try:
            until_s = time.monotonic() + 60
            while not run.judged():
                if process.poll() is not None or time.monotonic() > until_s:
                    raise RuntimeError(f"the daemon does not judge:\n{(home / 'log').read_text()}")
                time.sleep(0.1)
            yield run
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            # The run's files go with the folder: what is asked of it later is read now.
            found = run._verdicts()
            run._verdicts = lambda: found  # type: ignore[method-assign]
        finally:
            process.kill()
            process.wait()
