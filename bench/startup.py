"""From the start of the process to READY=1, split by stage: ``python bench/startup.py BUNDLE``.
With ``--systemd``, from ``systemctl start`` on, in a machine that is booted and gets the station
installed for it (root; minutes).

Each run is a fresh interpreter that runs the daemon itself, with clocks around the doors of its
rooms; no broker answers, which holds up nothing. With the engine tensorrt a plan has to be cached
first (``edge-qc build``).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CLOCKS = ("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
"""systemd's: the process started, READY=1 came."""


def one_start(settings_file: Path, began_s: float) -> None:
    """In the fresh interpreter: run until READY, print the stages in milliseconds."""
    stages = {"interpreter": time.monotonic() - began_s}

    def since(name: str, mark_s: float) -> float:
        now_s = time.monotonic()
        stages[name] = stages.get(name, 0.0) + now_s - mark_s
        return now_s

    mark_s = time.monotonic()
    from edge_qc.inspection import inspecting as inspection
    from edge_qc.settings import read_settings
    from edge_qc.station import daemon
    from edge_qc.station import opening as station

    mark_s = since("imports", mark_s)
    settings = read_settings(settings_file)
    since("settings", mark_s)

    def timed(owner: Any, name: str, stage: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def measured(*arguments: Any, **named: Any) -> Any:
            mark_s = time.monotonic()
            try:
                return real(*arguments, **named)
            finally:
                since(stage, mark_s)

        setattr(owner, name, measured)

    timed(station.Outbox, "open", "outbox")
    timed(inspection, "open_bundle", "bundle verified")
    timed(inspection, "open_engine", "engine opened")
    timed(inspection, "accept", "acceptance")

    def notify(*assignments: str) -> bool:
        if "READY=1" in assignments:
            total_s = time.monotonic() - began_s
            stages["the rest"] = total_s - sum(stages.values())
            stages["READY"] = total_s
            sys.stdout.write(json.dumps({name: 1e3 * took for name, took in stages.items()}))
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGTERM)
        return True

    daemon.notify = notify  # type: ignore[assignment]
    daemon.run(settings)


def measure(bundle: Path, engine: str, runs: int, folder: Path) -> dict[str, Any]:
    (folder / "images").mkdir()
    file = folder / "station.toml"
    file.write_text(
        '[station]\nsite = "bench"\nname = "startup"\nstate_dir = "state"\n'
        f'[bundle]\npath = "{bundle.resolve()}"\n[engine]\nkind = "{engine}"\n'
        '[mqtt]\nhost = "127.0.0.1"\nport = 1\n[line]\ndrain_s = 0.1\n'
        '[[camera]]\nname = "c"\nsource = "file://images"\n'
        f'die = "{next(iter(json.loads((bundle / "manifest.json").read_text())["dies"]))}"\n',
        encoding="utf-8",
    )
    seen: list[dict[str, float]] = []
    # An installed station has its modules compiled.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    for _ in range(runs + 1):
        began_s = time.monotonic()
        done = subprocess.run(
            [sys.executable, __file__, "--started", repr(began_s), str(file)],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        if not done.stdout:
            raise SystemExit(f"the station does not start:\n{done.stderr}")
        seen.append(json.loads(done.stdout))
    first, *others = seen
    return {
        "bundle": json.loads((bundle / "manifest.json").read_text())["network"],
        "engine": engine,
        "runs": runs,
        "first_start_ms": first,
        "median_ms": {name: statistics.median(run[name] for run in others) for name in first},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
    }


def under_systemd(bundle: Path, runs: int, folder: Path) -> dict[str, Any]:
    """The installed unit: how long ``systemctl start`` takes, which comes back with READY=1, and by
    systemd's clock how much of it is the unit's process, its sandbox included. What happens in the
    process is ``measure``'s."""
    sys.path[:0] = [str(ROOT)]
    from deploy.wheelhouse import pack
    from tests.delivery.conftest import SETTINGS, system_python
    from tests.delivery.machine import booted

    die = next(iter(json.loads((bundle / "manifest.json").read_text())["dies"]))
    seen: list[dict[str, float]] = []
    with booted(folder / "of") as machine:
        pack(machine.shared / "wheelhouse", system_python(), platform.machine())
        shutil.copytree(bundle, machine.shared / "bundle")
        machine.run("/srv/shared/wheelhouse/install.sh", "--offline", timeout_s=600)
        machine.write("/etc/edge-qc/station.toml", SETTINGS.replace("Die01", die))
        machine.write("/etc/edge-qc/credentials/mqtt.password", "secret", "600")
        machine.shell(
            "mkdir /srv/images; cp -r /srv/shared/bundle /var/lib/edge-qc/\n"
            "chown -R edge-qc: /var/lib/edge-qc"
        )
        for _ in range(runs + 1):
            began_s = time.monotonic()
            machine.run("systemctl", "start", "edge-qc")
            took_s = time.monotonic() - began_s
            told = machine.show("edge-qc", *CLOCKS)
            process_us, ready_us = (int(told[name]) for name in CLOCKS)
            seen.append({"process": (ready_us - process_us) / 1e3, "systemctl start": 1e3 * took_s})
            machine.run("systemctl", "stop", "edge-qc")
    first, *others = seen
    return {
        "runs": runs,
        "first_start_ms": first,
        "median_ms": {name: statistics.median(run[name] for run in others) for name in first},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time a station's start, by stage.")
    parser.add_argument("bundle", type=Path, help="a bundle's folder")
    parser.add_argument("--engine", default="onnxruntime")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--systemd", action="store_true", help="from systemctl start on")
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.started is not None:
        one_start(options.bundle, options.started)
        return
    out = ROOT / "bench" / "results" / "startup.json"
    figures = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        if options.systemd:
            figures["systemd"] = under_systemd(options.bundle, options.runs, Path(scratch))
        else:
            figures |= measure(options.bundle, options.engine, options.runs, Path(scratch))
    out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
