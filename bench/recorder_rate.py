"""How many verdicts a second ``edge-qc record`` commits to PostgreSQL, beside a plain COPY.

One mosquitto with the plant's settings, the recorder as its own process, a PostgreSQL with Debian's
settings, which writes each commit to disk; 50 stations whose messages are prepared, sent as fast as
the windows allow. A run ends when the recorder has acknowledged the last verdict, so that each is
committed. The peer writes the same rows into a table of the same indexes with psycopg's COPY, in
commits of the recorder's size: what the database takes if nothing is asked, joined or counted. In
turn, in one run. Needs Debian's postgresql and mosquitto.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE.parent / "deploy" / "demo"))

from broker import running_broker  # noqa: E402
from peers import beside  # noqa: E402
from sides.plant_side import BROKER, Spent, recording  # noqa: E402
from sides.prepared_stations import Stations  # noqa: E402

from tests.rig.databases import running_postgres  # noqa: E402

STATIONS, VERDICTS, RUNS, GROUP = 50, 30_000, 5, 500


def _recorded(host: str, port: int, spent: Spent) -> float:
    """Seconds from the first verdict sent to the last acknowledged."""
    stations = Stations(STATIONS, host, port)
    for number in range(VERDICTS):
        stations.all[number % STATIONS].verdict()
    spent.begin()
    took_s = stations.settle(120)
    spent.end()
    lacking = sum(one.sent["verdict"] - one.acknowledged["verdict"] for one in stations.all)
    stations.close()
    if lacking:
        raise SystemExit(
            f"{lacking} of {VERDICTS} verdicts were not acknowledged in {took_s:.0f} s"
        )
    return took_s


def _copied(url: str) -> float:
    """Seconds for the newest rows once more, by COPY."""
    import psycopg

    with psycopg.connect(url) as db:
        db.execute("DROP TABLE IF EXISTS copied")
        db.execute("CREATE TABLE copied (LIKE verdict INCLUDING ALL)")
        rows = db.execute(
            "SELECT * FROM verdict ORDER BY received DESC LIMIT %s", (VERDICTS,)
        ).fetchall()
        db.commit()
        began_s = time.perf_counter()
        for first in range(0, VERDICTS, GROUP):
            with db.cursor() as cursor, cursor.copy("COPY copied FROM STDIN") as copy:
                for row in rows[first : first + GROUP]:
                    copy.write_row(row)
            db.commit()
        return time.perf_counter() - began_s


def figures() -> list[dict[str, Any]]:
    """recorder_rate."""
    if not all(beside(peer, "recorder_rate") for peer in ("initdb", "mosquitto")):
        return []
    ours: list[float] = []
    theirs: list[float] = []
    shares: list[dict[str, float]] = []
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-qc-rate-"))
        url = stack.enter_context(running_postgres())
        lines = [*BROKER, f"persistence_location {folder}/"]
        host, port = stack.enter_context(running_broker("mosquitto", None, lines))
        recorder = stack.enter_context(recording(f"{host}:{port}", url))
        spent = Spent(recorder.pid)
        for number in range(RUNS + 1):
            took_s = _recorded(host, port, spent)
            copy_s = _copied(url)
            print(f"  {VERDICTS / took_s:.0f} a second; COPY {VERDICTS / copy_s:.0f}; cores "
                  + spent.said(), file=sys.stderr, flush=True)  # fmt: skip
            if number:  # the first warms both up
                ours.append(took_s)
                theirs.append(copy_s)
                shares.append(spent.cores)
        memory_mb = spent.peak_mb()
    cores = {name: statistics.median(one[name] for one in shares) for name in shares[0]}
    rate = VERDICTS / statistics.median(ours)
    return [
        {
            "name": "recorder_rate",
            "ratio": rate,
            "ratio_is": "verdicts/s",
            "goal": ">= 3000",
            "ours_median_s": statistics.median(ours),
            "theirs_median_s": statistics.median(theirs),
            "runs": RUNS,
            "note": f"{VERDICTS} verdicts of {STATIONS} stations through one mosquitto and one"
            " edge-qc record into PostgreSQL, each commit on disk; slowest run"
            f" {VERDICTS / max(ours):.0f}; theirs is psycopg's COPY of the same rows,"
            f" {VERDICTS / statistics.median(theirs):.0f} a second; cores of {os.cpu_count()}: "
            + ", ".join(f"{name} {share:.2f}" for name, share in cores.items())
            + f"; the recorder's memory {memory_mb:.0f} MB at most",
        }
    ]
