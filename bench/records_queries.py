"""Ten million verdicts in PostgreSQL: the dashboard's and the quality engineer's questions.

A cluster of its own under a temporary folder, the recorder's own tables and indexes, made-up rows:
20 stations of 4 dies over 60 days, payloads as long as real ones. Each question is asked through
``edge_qc.plant.recorder.queries`` or as the SQL of docs/records.md, six times, the first not
counted; its plan goes to ``results/records_queries.txt``. Beside them one question without the
tally, counted out of the verdicts themselves. Needs Debian's postgresql, 25 GB of disk and a
quarter of an hour; EDGE_QC_BENCH_VERDICTS takes another number of rows. EDGE_QC_BENCH_DATABASE, a
URL, asks a database that ``python bench/sides/made_up_records.py URL`` has filled before.
"""

from __future__ import annotations

import contextlib
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import time as clock
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from peers import beside

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from sides.made_up_records import DAYS, END, STATIONS, load  # noqa: E402

from edge_qc.plant.recorder import counts, open_database, queries, truths  # noqa: E402
from edge_qc.plant.recorder.where import Shifts, Where  # noqa: E402
from tests.rig.databases import running_postgres  # noqa: E402

RUNS, GOAL_S = 5, 0.2

_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "8GB",
    "shared_buffers": "2GB",
    "effective_cache_size": "8GB",
    "maintenance_work_mem": "1GB",
    "work_mem": "64MB",
    "random_page_cost": "1.1",
    "jit": "off",
}

_CHART = """
SELECT bucket, sum(n) AS n, sum(drift_sum) / sum(drift_n) AS mean,
    sqrt(greatest(sum(drift_squares) / sum(drift_n) - (sum(drift_sum) / sum(drift_n)) ^ 2, 0)) AS sd
FROM tally WHERE station_id = 7 AND die = 'Die02' AND label = 'GOOD'
    AND bucket >= :since AND bucket < :until
GROUP BY bucket ORDER BY bucket
"""

_RATES = """
SELECT station.site, station.name, sum(n) AS verdicts,
    sum(n) FILTER (WHERE disposition = 'PASS') AS passed
FROM tally JOIN station USING (station_id) WHERE bucket >= :since AND bucket < :until
GROUP BY station.site, station.name
"""

_WITHOUT = """
SELECT date_trunc('day', time), die, count(*), count(*) FILTER (WHERE disposition = 'PASS')
FROM verdict WHERE time >= :since AND time < :until GROUP BY 1, 2
"""


def _questions(engine: sa.Engine) -> dict[str, Callable[[], Any]]:
    shifts = Shifts((clock(6), clock(14), clock(22)), timezone.utc)
    day, week, month = (Where(since=END - timedelta(days=n), until=END) for n in (1, 7, 30))
    one = Where(since=week.since, until=END, station="line-7")
    with engine.connect() as db:
        some_id = db.execute(
            sa.text("SELECT verdict_id FROM verdict ORDER BY time OFFSET 4000 LIMIT 1")
        ).scalar_one()

    def sql(text: str, where: Where) -> Callable[[], Any]:
        def ask() -> Any:
            with engine.connect() as db:
                return db.execute(sa.text(text), {"since": where.since, "until": where.until}).all()

        return ask

    def by_id() -> Any:
        with engine.connect() as db:
            query = sa.text("SELECT payload FROM verdict WHERE verdict_id = :id")
            return db.execute(query, {"id": some_id}).scalar_one()

    def by_part() -> Any:
        with engine.connect() as db:
            query = sa.text("SELECT * FROM verdict WHERE part_id = 'P1234567' ORDER BY time")
            return db.execute(query).all()

    return {
        "stations' rates, a day": sql(_RATES, day),
        "yield by shift and die, one station, a week": lambda: counts.yields(
            engine, one, ("shift", "die"), shifts
        ),
        "Pareto by class and die, a day": lambda: counts.yields(
            engine, day, ("class", "die"), shifts
        ),
        "Pareto by class and die, a week": lambda: counts.yields(
            engine, week, ("class", "die"), shifts
        ),
        "yield by day and die, 30 days": lambda: counts.yields(
            engine, month, ("day", "die"), shifts
        ),
        **{
            f"yield by {' and '.join(by)}, all stations, 30 days": functools.partial(
                counts.yields, engine, month, by, shifts
            )
            for by in (("shift",), ("hour",), ("shift", "die"), ("shift", "station"))
        },
        "yield by station, two odd minutes a week apart": lambda: counts.yields(
            engine,
            Where(since=END - timedelta(days=7, minutes=3), until=END - timedelta(minutes=7)),
            ("station",),
            shifts,
        ),
        "yield by bundle, everything": lambda: counts.yields(engine, Where(), ("bundle",), shifts),
        "drift chart, one die of one station, a week": sql(_CHART, week),
        "newest 50 not passed": lambda: list(
            queries.verdicts(engine, Where(), not_passed=True, limit=50)
        ),
        "newest 50 of one station": lambda: list(
            queries.verdicts(engine, Where(station="line-7"), limit=50)
        ),
        "newest 50 not passed of one station": lambda: list(
            queries.verdicts(engine, Where(station="line-7"), not_passed=True, limit=50)
        ),
        "one part": by_part,
        "one verdict": by_id,
        "escapes, 30 days": lambda: truths.escapes(engine, month),
        "labelled by true and said": lambda: truths.confusion(engine, month),
        "gaps": lambda: queries.gaps(engine),
    }


def _asked(engine: sa.Engine, ask: Callable[[], Any]) -> tuple[list[float], str]:
    """How long it took each time, and the plans of what was asked."""
    statements: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    sa.event.listen(engine, "before_cursor_execute", note)
    ask()
    sa.event.remove(engine, "before_cursor_execute", note)
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        ask()
        times.append(time.perf_counter() - began)
    plans = []
    with engine.connect() as db:
        for statement, parameters in statements:
            explained = db.exec_driver_sql(
                f"EXPLAIN (ANALYZE, BUFFERS) {statement}", parameters or None
            )
            plans.append(" ".join(statement.split()))
            plans += [f"    {row[0]}" for row in explained]
    return times, "\n".join(plans)


def figures() -> list[dict[str, Any]]:
    """records_queries."""
    if not beside("initdb", "records_queries"):
        return []
    filled = os.environ.get("EDGE_QC_BENCH_DATABASE")
    with contextlib.nullcontext(filled) if filled else running_postgres(_SETTINGS) as url:
        engine = open_database(url)
        loaded = "loaded before" if filled else f"loaded in {load(engine):.0f} s"
        with engine.connect() as db:
            sizes = {
                name: db.execute(sa.text(f"SELECT pg_total_relation_size('{name}')")).scalar_one()
                for name in ("verdict", "tally", "tally_hour", "tally_day")
            }
            rows = {
                name: db.execute(sa.text(f"SELECT count(*) FROM {name}")).scalar_one()
                for name in ("verdict", "tally", "tally_hour", "tally_day", "label")
            }
            version, buffers = (
                db.execute(sa.text(f"SHOW {name}")).scalar_one()
                for name in ("server_version", "shared_buffers")
            )
        said = ", ".join(f"{name} {count} rows" for name, count in rows.items())
        room = ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in sizes.items())
        report = [
            f"PostgreSQL {version}: {said}; with indexes {room}; {STATIONS} stations, {DAYS} days;"
            f" {loaded}; {buffers} of shared buffers; load average of the machine"
            f" {os.getloadavg()[0]:.1f}; medians of {RUNS} (least), warm",
        ]
        taken = {}
        for name, ask in _questions(engine).items():
            times, plan = _asked(engine, ask)
            taken[name] = statistics.median(times)
            told = f"{name}: {taken[name] * 1e3:.1f} ms ({min(times) * 1e3:.1f})"
            report += ["", f"== {told}", plan]
            print(f"  {told}", file=sys.stderr, flush=True)
        month = {"since": END - timedelta(days=30), "until": END}
        began = time.perf_counter()
        with engine.connect() as db:
            db.execute(sa.text(_WITHOUT), month).all()
        without_s = time.perf_counter() - began
        report += ["", f"== without the tally, yield by day and die, 30 days: {without_s:.1f} s"]
        engine.dispose()
    (HERE / "results" / "records_queries.txt").write_text("\n".join(report) + "\n")
    slowest = max(taken, key=lambda name: taken[name])
    return [
        {
            "name": "records_queries",
            "ratio": GOAL_S / taken[slowest],
            "ratio_is": "200 ms / slowest median",
            "goal": "every question under 200 ms",
            "ours_median_s": taken["yield by day and die, 30 days"],
            "theirs_median_s": without_s,
            "runs": RUNS,
            "note": f"{rows['verdict']} verdicts; slowest is {slowest}; theirs is yield by day and"
            " die of 30 days counted out of the verdicts; "
            + ", ".join(f"{name} {value * 1e3:.0f} ms" for name, value in taken.items()),
        }
    ]
