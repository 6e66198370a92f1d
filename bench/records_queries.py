"""Ten million verdicts in PostgreSQL: the dashboard's and the quality engineer's questions.

A cluster of its own under a temporary folder, the recorder's own tables and indexes, made-up rows:
20 stations of 4 dies over 60 days, payloads as long as real ones. Each question is asked through
``edge_qc.plant.recorder.queries`` or as the SQL of docs/records.md, six times, the first not
counted; its plan goes to ``results/records_queries.txt``. Beside them one question without the
tally, counted out of the verdicts themselves. Needs Debian's postgresql, 25 GB of disk and a
quarter of an hour;
EDGE_QC_BENCH_VERDICTS takes another number of rows.
"""

from __future__ import annotations

import functools
import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from datetime import time as clock
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from peers import beside

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from edge_qc.plant.recorder import counts, open_database, queries, truths  # noqa: E402
from edge_qc.plant.recorder.where import Shifts, Where  # noqa: E402
from tests.rig.databases import running_postgres  # noqa: E402

VERDICTS = int(os.environ.get("EDGE_QC_BENCH_VERDICTS", "10000000"))
STATIONS, DAYS, RUNS, CHUNK = 20, 60, 5, 500_000
BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)
END = BEGIN + timedelta(days=DAYS)
GOAL_S = 0.2

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

_ROWS = """
INSERT INTO verdict (verdict_id, stream_id, seq, station_id, camera, die, part_id, time, label,
    disposition, reason, drift_score, drift_p, expected_cost, bundle_no, latency_ms, historical,
    received, payload)
SELECT id, station_no, g / :stations + 1, station_no, 'die0' || die_no, 'Die0' || die_no,
    'P' || g / 4, at, label,
    CASE WHEN label = 'GOOD' THEN 'PASS' WHEN label = 'NOT_JUDGED' THEN 'REVIEW' ELSE 'REJECT' END,
    CASE WHEN label = 'NOT_JUDGED' THEN 'frame' ELSE 'decided' END,
    dice / 500.0, 1 - dice / 1000.0, dice / 10.0, 1 + (g > :total / 2)::int, 4 + dice / 500.0,
    false, at, format(:payload, id, g / :stations + 1, at, label, dice)
FROM (
    SELECT g, md5(g::text)::uuid::text AS id, 1 + g % :stations AS station_no,
        1 + (g / :stations) % 4 AS die_no, :begin + g * (:step * interval '1 second') AS at,
        abs(hashint8(g)) % 1000 AS dice,
        CASE WHEN abs(hashint8(g)) % 1000 < 930 THEN 'GOOD'
             WHEN abs(hashint8(g)) % 1000 < 960 THEN 'Missing'
             WHEN abs(hashint8(g)) % 1000 < 975 THEN 'Boucle plate'
             WHEN abs(hashint8(g)) % 1000 < 985 THEN 'Lift-off noir'
             WHEN abs(hashint8(g)) % 1000 < 995 THEN 'DRIFT' ELSE 'NOT_JUDGED' END AS label
    FROM generate_series(CAST(:first AS bigint), :last) AS g
) AS made
"""

_PAYLOAD = (
    '{"schema":"edge-qc/verdict/1","verdict_id":"%s","epoch":"0d0a54b1-4f7e-4a39-9d1c-7a2a4d2f3c11"'
    ',"seq":%s,"site":"plant-1","station":"line-1","camera":"die01","die":"Die01","part_id":"P1",'
    '"trigger_id":"7c0e5c0b7f5f4e8f8a8a4b8d0a1b2c3d","time":"%s","label":"%s","disposition":'
    '"PASS","reason":"decided","probabilities":{"GOOD":0.991,"Boucle plate":0.002,'
    '"Lift-off blanc":0.001,"Lift-off noir":0.002,"Missing":0.003,"Short circuit MOS":0.0005,'
    '"DRIFT":0.0005},"drift":{"score":0.%s,"p_value":0.61,"threshold":9.2,"witness":"padim",'
    '"witnesses":{"padim":0.61,"embedding":0.9}},"expected_cost":{"GOOD":12.5,'
    '"Boucle plate":95.1,"Missing":96.2,"DRIFT":31.5},"bundle":{"id":"'
    + "b"
    * 64
    + '","version":3},"engine":"onnxruntime 1.31 (CPU)","latency_ms":{"view":0.4,"engine":4.1,'
    '"decision":0.1},"image":null,"detail":""}'
)

_TALLY = """
INSERT INTO {table}
SELECT date_bin('{grain}', time, '2000-01-01 00:00+00'), station_id, die, bundle_no, label,
    disposition, reason, count(*), count(*), sum(drift_score), sum(drift_score * drift_score),
    sum(expected_cost), count(*), sum(latency_ms)
FROM verdict GROUP BY 1, 2, 3, 4, 5, 6, 7
"""

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


def _load(engine: sa.Engine) -> None:
    """The rows, with indexes and keys made behind them: what a recorder does in months."""
    step = DAYS * 86_400 / VERDICTS
    with engine.begin() as db:
        indexes = list(
            db.execute(
                sa.text(
                    "SELECT i.relname, pg_get_indexdef(i.oid), c.conname,"
                    " pg_get_constraintdef(c.oid) FROM pg_index x JOIN pg_class i ON i.oid ="
                    " x.indexrelid LEFT JOIN pg_constraint c ON c.conindid = i.oid AND c.contype"
                    " IN ('p', 'u') WHERE x.indrelid = 'verdict'::regclass"
                )
            )
        )
        for name, _, constraint, _ in indexes:
            db.execute(
                sa.text(
                    f"ALTER TABLE verdict DROP CONSTRAINT {constraint}"
                    if constraint
                    else f"DROP INDEX {name}"
                )
            )
        for number in range(1, STATIONS + 1):
            db.execute(
                sa.text("INSERT INTO station VALUES (:n, 'plant-1', :name)"),
                {"n": number, "name": f"line-{number}"},
            )
            db.execute(
                sa.text("INSERT INTO stream VALUES (:n, :n, :epoch, 'verdict', :upto, now())"),
                {"n": number, "epoch": f"epoch-{number}", "upto": VERDICTS // STATIONS},
            )
        for number in (1, 2):
            db.execute(
                sa.text("INSERT INTO bundle VALUES (:n, :id, :n, NULL)"),
                {"n": number, "id": "ab"[number - 1] * 64},
            )
    for first in range(0, VERDICTS, CHUNK):
        with engine.begin() as db:
            db.execute(
                sa.text(_ROWS),
                {
                    "stations": STATIONS, "total": VERDICTS, "begin": BEGIN, "step": step,
                    "first": first, "last": min(first + CHUNK, VERDICTS) - 1, "payload": _PAYLOAD,
                },
            )  # fmt: skip
        print(f"  {first + CHUNK} rows", file=sys.stderr, flush=True)
    with engine.begin() as db:
        for _, definition, constraint, stated in indexes:
            db.execute(
                sa.text(
                    f"ALTER TABLE verdict ADD CONSTRAINT {constraint} {stated}"
                    if constraint
                    else definition
                )
            )
        for table, grain in (
            ("tally", "15 minutes"),
            ("tally_hour", "1 hour"),
            ("tally_day", "1 day"),
        ):
            db.execute(sa.text(_TALLY.format(table=table, grain=grain)))
        db.execute(
            sa.text(
                "INSERT INTO label (verdict_id, truth, labelled_by, time, note)"
                " SELECT verdict_id, CASE WHEN seq % 50 = 0 THEN 'Missing' ELSE label END, 'ann',"
                " time, '' FROM verdict WHERE seq % 2003 = 0"
            )
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        db.execute(sa.text("VACUUM ANALYZE"))


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
    with running_postgres(_SETTINGS) as url:
        engine = open_database(url)
        began = time.perf_counter()
        _load(engine)
        loaded_s = time.perf_counter() - began
        with engine.connect() as db:
            sizes = {
                name: db.execute(sa.text(f"SELECT pg_total_relation_size('{name}')")).scalar_one()
                for name in ("verdict", "tally", "tally_hour", "tally_day")
            }
            rows = {
                name: db.execute(sa.text(f"SELECT count(*) FROM {name}")).scalar_one()
                for name in ("verdict", "tally", "tally_hour", "tally_day", "label")
            }
            version = db.execute(sa.text("SHOW server_version")).scalar_one()
        said = ", ".join(f"{name} {count} rows" for name, count in rows.items())
        room = ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in sizes.items())
        report = [
            f"PostgreSQL {version}: {said}; with indexes {room}; {STATIONS} stations, {DAYS} days;"
            f" loaded in {loaded_s:.0f} s; {_SETTINGS['shared_buffers']} of shared buffers; load"
            f" average of the machine {os.getloadavg()[0]:.1f}; medians of {RUNS} (least), warm",
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
