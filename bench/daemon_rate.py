"""The whole daemon against its bare engine: verdicts that are synced to disk and acknowledged by a
broker, per second; how long a frame takes to its PUBACK; what it costs to wait, and to run long.

Four cameras read the same uncompressed images that the bare engine judges, batch 1, one thread for
the engine on both sides; broker, cameras and all else share the machine. EDGE_QC_BENCH_FRAMES: how
many frames the memory is watched for (100 000 take minutes).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "deploy" / "demo")]

from broker import running_broker  # noqa: E402

from edge_qc.bundle.verification import Bundle, open_bundle  # noqa: E402
from edge_qc.engine import open_engine  # noqa: E402
from edge_qc.inspection.view import view  # noqa: E402

ROUNDS = 3
BARE_S, DAEMON_S, IDLE_S = 3.0, 12.0, 15.0
PACE_PER_CAMERA = 2
IMAGES_PER_DIE = 10
FRAMES = int(os.environ.get("EDGE_QC_BENCH_FRAMES", "20000"))
TICKS = os.sysconf("SC_CLK_TCK")


def figures() -> Iterator[dict[str, Any]]:
    """daemon_rate (views of 224 pixels, as ``edge-qc train`` makes them), daemon_rate_48 (an engine
    so quick that the station around it weighs as much), and daemon_frame_to_puback,
    daemon_idle_cpu and daemon_memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _edge_qc(folder, "synth", "data", "--train", "240", "--test", "40")
        for size, figure, goal in ((224, "daemon_rate", ">= 0.85"), (48, "daemon_rate_48", "")):
            bundle = _trained(folder, size)
            images = _images(folder, bundle)
            yield _rate(figure, goal, folder, bundle, images)
            if size == 224:
                yield _latency(folder, bundle, images)
                yield _idle(folder, bundle, images)
        yield _memory(folder)


def _edge_qc(folder: Path, *arguments: object) -> None:
    command = [sys.executable, "-m", "edge_qc.cli", *map(str, arguments)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def _trained(folder: Path, size: int) -> Bundle:
    run, out = f"run-{size}", f"bundle-{size}"
    _edge_qc(
        folder, "train", "data", "--network", "cnn-basic", "--size", size, "--epochs", 1,
        "--out", run,
    )  # fmt: skip
    _edge_qc(folder, "export", run, "--out", out)
    return open_bundle(folder / out)


def _images(folder: Path, bundle: Bundle) -> dict[str, Path]:
    """A folder of uncompressed images for each die: a live camera has nothing to decode either."""
    found = {}
    sources = sorted((folder / "data" / "input_train").glob("*.png"))
    for number, die in enumerate(bundle.manifest.dies):
        target = found[die] = folder / "frames" / die
        target.mkdir(parents=True, exist_ok=True)
        for source in sources[number :: len(bundle.manifest.dies)][:IMAGES_PER_DIE]:
            grey = cv2.imread(str(source), cv2.IMREAD_GRAYSCALE)
            cv2.imwrite(str(target / f"{source.stem}.bmp"), grey)
    return found


def _rate(
    name: str, goal: str, folder: Path, bundle: Bundle, images: dict[str, Path]
) -> dict[str, Any]:
    """Verdicts per second, medians of rounds taken in turn."""
    ours, theirs, with_view = [], [], []
    for _ in range(ROUNDS):
        engine_only, whole = _bare(bundle, images)
        theirs.append(engine_only)
        with_view.append(whole)
        with _daemon(folder, bundle.model.parent, _cameras(images)) as run:
            time.sleep(DAEMON_S)
        ours.append(run.rate())
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    fair = statistics.median(a / b for a, b in zip(ours, with_view, strict=True))
    return {
        "name": name,
        "ratio": statistics.median(ratios),
        "ratio_is": "ours/theirs",
        "goal": goal,
        "ours_median_s": 1 / statistics.median(ours),
        "theirs_median_s": 1 / statistics.median(theirs),
        "runs": ROUNDS,
        "note": f"cnn-basic at {bundle.manifest.input.height}, batch 1, one engine thread: "
        f"{statistics.median(ours):.0f} verdicts/s, synced and acknowledged, against "
        f"{statistics.median(theirs):.0f}/s of the bare engine on views cut before; against view "
        f"and engine in a bare loop ({statistics.median(with_view):.0f}/s) it is {fair:.2f}",
    }


def _bare(bundle: Bundle, images: dict[str, Path]) -> tuple[float, float]:
    """Readings per second of the engine alone, and with the view cut from the frame."""
    spec = bundle.manifest.input
    frames = [
        (cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), bundle.manifest.dies[die])
        for die, folder in images.items()
        for file in sorted(folder.iterdir())
    ]
    size = (spec.height, spec.width)
    views = [view(pixels, die, size, spec.interpolation).pixels[None] for pixels, die in frames]
    engine = open_engine(bundle, threads=1)
    rates = []
    for cut in (False, True):
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < BARE_S:
            which = done % len(frames)
            pixels, die = frames[which]
            crop = view(pixels, die, size, spec.interpolation).pixels[None] if cut else views[which]
            engine.infer(crop)
            done += 1
        rates.append(done / (time.perf_counter() - began))
    engine.close()
    return rates[0], rates[1]


def _latency(folder: Path, bundle: Bundle, images: dict[str, Path]) -> dict[str, Any]:
    with _daemon(folder, bundle.model.parent, _cameras(images, PACE_PER_CAMERA)) as run:
        time.sleep(3 * DAEMON_S)
    taken_s = np.array(run.latencies_s()[20:])
    p50, p99 = (float(np.percentile(taken_s, share)) for share in (50, 99))
    return {
        "name": "daemon_frame_to_puback",
        "ratio": p99 / p50,
        "ratio_is": "p99/p50",
        "goal": "",
        "ours_median_s": p50,
        "theirs_median_s": None,
        "runs": len(taken_s),
        "note": f"from the frame to the broker's PUBACK, four cameras at {PACE_PER_CAMERA} frames "
        f"a second each: p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms",
    }


def _idle(folder: Path, bundle: Bundle, images: dict[str, Path]) -> dict[str, Any]:
    """The share of a core that daemon and camera processes take while no frame comes."""
    with _daemon(folder, bundle.model.parent, _cameras(images, 0.01)) as run:
        time.sleep(6)
        before = run.cpu_s()
        time.sleep(IDLE_S)
        share = (run.cpu_s() - before) / IDLE_S
    return {
        "name": "daemon_idle_cpu",
        "ratio": share,
        "ratio_is": "share of a core",
        "goal": "< 0.03",
        "ours_median_s": None,
        "theirs_median_s": None,
        "runs": 1,
        "note": f"four cameras open, none giving frames, for {IDLE_S:.0f} s: {share:.1%} of a core",
    }


def _memory(folder: Path) -> dict[str, Any]:
    """Resident memory from a fifth of the frames to their end, on a network of a few nodes."""
    from tests.rig.tiny_bundle import SIDE, make_bundle

    bundle = make_bundle(folder / "tiny", batch=1)
    frames = folder / "tiny-frames"
    frames.mkdir()
    for number in range(8):
        noise = np.random.default_rng(number).integers(30, 220, (SIDE, SIDE), dtype=np.uint8)
        cv2.imwrite(str(frames / f"{number}.bmp"), noise)
    seen: list[tuple[int, int]] = []
    with _daemon(folder, bundle, [(frames, "Die01", None)] * 4) as run:
        while not seen or seen[-1][0] < FRAMES:
            time.sleep(1.0)
            seen.append((run.judged(), run.resident()))
    settled = next(memory for judged, memory in seen if judged >= FRAMES / 5)
    last = seen[-1][1]
    return {
        "name": "daemon_memory",
        "ratio": last / settled,
        "ratio_is": "at the end / at a fifth",
        "goal": "<= 1.05",
        "ours_median_s": None,
        "theirs_median_s": None,
        "runs": seen[-1][0],
        "note": f"resident memory over {seen[-1][0]} frames: {settled / 1e6:.1f} MB at a fifth, "
        f"{last / 1e6:.1f} MB at the end, most {max(m for _, m in seen) / 1e6:.1f} MB",
    }


def _cameras(
    images: dict[str, Path], fps: float | None = None
) -> list[tuple[Path, str, float | None]]:
    return [(folder, die, fps) for die, folder in images.items()]


@dataclass
class _Run:
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


@contextlib.contextmanager
def _daemon(
    folder: Path, bundle: Path, cameras: Sequence[tuple[Path, str, float | None]]
) -> Iterator[_Run]:
    """From its first verdict on; stopped in order."""
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
            )  # fmt: skip
        run = _Run(process, home / "state", home / "acknowledged.json")
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
