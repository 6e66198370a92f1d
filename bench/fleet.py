"""Simulated stations, one mosquitto, one recorder, for some time: ``python bench/fleet.py``.

Each station is a connection of its own that publishes verdicts of real size and shape at QoS 1, a
part's verdict behind every four, and heartbeats; window 64, no outbox: what is measured is the
plant's side. Lag is from sending a verdict to the recorder's acknowledgement, which comes once it
is committed; a first part of each station, with which the recorder gets to know it, is not counted
in. ``--database postgresql`` starts a PostgreSQL of its own, which writes each commit to
disk; ``--dashboard`` has a page open beside. Everything is on the loopback, on one machine, and
stops by itself. Figures go to bench/results/fleet.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "deploy" / "demo"))

from broker import free_port, running_broker  # noqa: E402
from sides.plant_side import BROKER, Spent, await_page, recording  # noqa: E402
from sides.prepared_stations import Stations, quantiles  # noqa: E402

from edge_qc.plant.recorder import open_database  # noqa: E402
from tests.rig.databases import running_postgres  # noqa: E402

SETTLE_S = 60.0


class Page:
    """An open page of the dashboard: reads the stream of changes as a browser does. gaps_s: between
    one change and the next."""

    def __init__(self, port: int) -> None:
        self.gaps_s: list[float] = []
        self._url = f"http://127.0.0.1:{port}/live"
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        last_s = None
        with contextlib.suppress(OSError), urllib.request.urlopen(self._url) as stream:
            for line in stream:
                if line.startswith(b"data:"):
                    now_s = time.monotonic()
                    if last_s is not None:
                        self.gaps_s.append(now_s - last_s)
                    last_s = now_s


@contextlib.contextmanager
def dashboard(broker: str, database: str) -> Iterator[tuple[subprocess.Popen[bytes], Page]]:
    """``edge-qc dashboard`` as a process of its own, with a page open."""
    port = free_port()
    command = [sys.executable, "-m", "edge_qc.cli", "dashboard", "--broker", broker]
    process = subprocess.Popen([*command, "--database", database, "--port", str(port)])
    try:
        await_page(port)
        yield process, Page(port)
    finally:
        process.terminate()
        process.wait(30)


def measure(options: argparse.Namespace) -> dict[str, object]:
    """One run; its figures."""
    postgres = options.database == "postgresql"
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-qc-fleet-"))
        database = f"{folder}/records.sqlite"
        if postgres:
            database = stack.enter_context(running_postgres())
        lines = [*BROKER, f"persistence_location {folder}/"]
        if options.saving == "every message":
            lines += ["autosave_on_changes true", "autosave_interval 1"]
            lines.remove("autosave_on_changes false")
        host, port = stack.enter_context(running_broker("mosquitto", free_port(), lines))
        recorder = stack.enter_context(recording(f"{host}:{port}", database))
        others, page = {}, None
        if options.dashboard:
            server, page = stack.enter_context(dashboard(f"{host}:{port}", database))
            others["dashboard"] = server.pid
        fleet = Stations(options.stations, host, port)
        for one in fleet.all:
            one.part()
        first_s = fleet.settle(SETTLE_S)
        for one in fleet.all:
            one.forget_figures()
        spent = Spent(recorder.pid, **others)
        spent.begin()
        sending_s = fleet.steadily(options.rate / 4, options.seconds)
        spent.end()
        settled_s = fleet.settle(SETTLE_S)
        fleet.close()
        lag_s = quantiles([lag for one in fleet.all for lag in one.lag_s])
        sent = sum(one.sent["verdict"] for one in fleet.all)
        messages = sum(one.messages for one in fleet.all)
        memory = {name: round(spent.peak_mb(name)) for name in ("recorder", "mosquitto", *others)}
        engine = open_database(database)
        with engine.connect() as db:
            rows = db.exec_driver_sql("SELECT count(*) FROM verdict").scalar_one()
            size = (
                db.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one()
                if postgres
                else Path(database).stat().st_size
            )
        engine.dispose()
    return {
        "broker_saves": options.saving,
        "database": options.database,
        "stations": options.stations,
        "wanted_per_s": options.rate * options.stations,
        "first_part_of_all_s": first_s,
        "sent_per_s": (sent - 4 * options.stations) / sending_s,
        "messages_per_s": messages / sending_s,
        "kb_per_s": sum(one.bytes for one in fleet.all) / sending_s / 1e3,
        "sent": sent,
        "acknowledged": sum(one.acknowledged["verdict"] for one in fleet.all),
        "recorded": rows,
        **dict(zip(("lag_p50_s", "lag_p99_s", "lag_max_s"), lag_s, strict=True)),
        "settled_after_s": settled_s,
        "database_bytes": size,
        "cores_of": spent.cores,
        "memory_mb": memory,
        "page_gap_p50_p99_max_s": quantiles(page.gaps_s) if page is not None else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulated stations on this machine.")
    parser.add_argument("--stations", type=int, default=50)
    parser.add_argument("--rate", type=float, default=4.0, help="verdicts a second, of each")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--dashboard", action="store_true", help="with a page open")
    parser.add_argument(
        "--saving",
        choices=("every message", "now and then"),
        default="now and then",
        help="when the broker writes its queues to disk: as deploy/mosquitto, or its default",
    )
    options = parser.parse_args()
    figures = measure(options)
    load = os.getloadavg()[0]
    figures["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}"
    file = ROOT / "bench" / "results" / "fleet.json"
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    name = (
        f"{options.stations} stations, {options.database}, {options.saving},"
        f" {options.rate * options.stations:.0f} a second"
    )
    kept[name + (", dashboard" if options.dashboard else "")] = figures
    file.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
