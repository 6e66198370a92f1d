"""The whole daemon against its bare engine: verdicts that are synced to disk and acknowledged by a
broker, per second; how long a frame takes to its PUBACK; what all but the engine can do at most;
what it costs to wait, and to run long.

Four cameras read the same uncompressed images that the bare engine judges, batch 1, one thread for
the engine on both sides; broker, cameras and all else share the machine. EDGE_QC_BENCH_FRAMES: how
many frames the memory is watched for (100 000 take minutes).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "deploy" / "demo")]

from daemon_run import cameras_of, running_daemon  # noqa: E402

from edge_qc.bundle.verification import Bundle, open_bundle  # noqa: E402
from edge_qc.engine import open_engine  # noqa: E402
from edge_qc.inspection.view import view  # noqa: E402

ROUNDS = 3
BARE_S, DAEMON_S, IDLE_S = 3.0, 12.0, 15.0
STUB_MS = 1.0
IMAGES_PER_DIE = 10
FRAMES = int(os.environ.get("EDGE_QC_BENCH_FRAMES", "20000"))


def figures() -> Iterator[dict[str, Any]]:
    """daemon_rate (views of 224 pixels), daemon_rate_48 and daemon_rate_lite0 (engines so quick
    that the station around them weighs as much), daemon_latency of both, daemon_ceiling,
    daemon_idle_cpu and daemon_memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _edge_qc(folder, "synth", "data", "--train", "240", "--test", "40")
        for suffix, network, size, goal in (
            ("", "cnn-basic", 224, ">= 0.85"),
            ("_48", "cnn-basic", 48, ">= 0.80"),
            ("_lite0", "efficientnet-lite0", 96, ">= 0.80"),
        ):
            bundle = _trained(folder, network, size)
            images = _images(folder, bundle)
            rate = _rate(f"daemon_rate{suffix}", goal, network, folder, bundle, images)
            yield rate
            if suffix:
                yield _latency(f"daemon_latency{suffix}", folder, bundle, images, rate)
        yield _ceiling(folder, bundle, images)
        yield _idle(folder, bundle, images)
        yield _memory(folder)


def _edge_qc(folder: Path, *arguments: object) -> None:
    command = [sys.executable, "-m", "edge_qc.cli", *map(str, arguments)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def _trained(folder: Path, network: str, size: int) -> Bundle:
    run, out = f"run-{size}", f"bundle-{size}"
    _edge_qc(
        folder, "train", "data", "--network", network, "--size", f"{size}x{size}", "--epochs", 1,
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
    name: str,
    goal: str,
    network: str,
    folder: Path,
    bundle: Bundle,
    images: dict[str, Path],
) -> dict[str, Any]:
    """Verdicts per second, medians of rounds taken in turn."""
    ours, theirs, with_view = [], [], []
    for _ in range(ROUNDS):
        engine_only, whole = _bare(bundle, images)
        theirs.append(engine_only)
        with_view.append(whole)
        with running_daemon(folder, bundle.model.parent, cameras_of(images)) as run:
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
        "note": f"{network} at {bundle.manifest.input.height}, batch 1, one engine thread: "
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


def _latency(
    name: str, folder: Path, bundle: Bundle, images: dict[str, Path], rate: dict[str, Any]
) -> dict[str, Any]:
    """At half of what the daemon can do: from the frame to the broker's PUBACK."""
    pace = 1 / rate["ours_median_s"] / 2 / len(images)
    with running_daemon(folder, bundle.model.parent, cameras_of(images, pace)) as run:
        time.sleep(3 * DAEMON_S)
    taken_s = np.array(run.latencies_s()[20:])
    p50, p99 = (float(np.percentile(taken_s, share)) for share in (50, 99))
    engine_s = rate["theirs_median_s"]
    alone_s = float(np.percentile(run.queued_s(engine_s), 99))
    return {
        "name": name,
        "ratio": p99 / engine_s,
        "ratio_is": "p99/the engine's own",
        "goal": "<= 3",
        "ours_median_s": p50,
        "theirs_median_s": engine_s,
        "runs": len(taken_s),
        "note": f"from the frame to the broker's PUBACK at half load, four cameras at {pace:.1f} "
        f"frames a second each: p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms; the bare engine "
        f"{engine_s * 1e3:.1f} ms, and p99 {alone_s * 1e3:.1f} ms for the same frames in a queue "
        "before it, with nothing else to do",
    }


def _ceiling(folder: Path, bundle: Bundle, images: dict[str, Path]) -> dict[str, Any]:
    """What the machinery around the engine can do: an engine that sleeps for a millisecond."""
    rates = []
    for _ in range(ROUNDS):
        with running_daemon(
            folder, bundle.model.parent, cameras_of(images), stub_ms=STUB_MS
        ) as run:
            time.sleep(DAEMON_S)
        rates.append(run.rate())
    rate = statistics.median(rates)
    return {
        "name": "daemon_ceiling",
        "ratio": rate,
        "ratio_is": "verdicts/s",
        "goal": ">= 500",
        "ours_median_s": 1 / rate,
        "theirs_median_s": None,
        "runs": ROUNDS,
        "note": f"an engine that sleeps for {STUB_MS:g} ms in the engine's place: {rate:.0f} "
        "verdicts/s, synced and acknowledged; cameras and broker share the machine's cores",
    }


def _idle(folder: Path, bundle: Bundle, images: dict[str, Path]) -> dict[str, Any]:
    """The share of a core that daemon and camera processes take while no frame comes."""
    with running_daemon(folder, bundle.model.parent, cameras_of(images, 0.01)) as run:
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
    with running_daemon(folder, bundle, [(frames, "Die01", None)] * 4) as run:
        while not seen or seen[-1][0] < FRAMES:
            time.sleep(1.0)
            seen.append((run.judged(), run.resident()))
        own, share = run.own(), run.share()
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
        f"{last / 1e6:.1f} MB at the end, most {max(m for _, m in seen) / 1e6:.1f} MB; "
        f"{own / 1e6:.1f} MB of it are the station's own, the rest pages of libraries, which the "
        f"cameras' processes share: with its part of these alone it is {share / 1e6:.1f} MB",
    }
