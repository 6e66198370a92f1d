"""Ten million made-up verdicts in a PostgreSQL, for the bench of the recorder's questions.

    python bench/sides/made_up_records.py URL

20 stations of 4 dies over 60 days, payloads as long as real ones, through the recorder's own tables
and indexes. The database must be empty.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[2]))

from edge_qc.plant.recorder import open_database

VERDICTS = int(os.environ.get("EDGE_QC_BENCH_VERDICTS", "10000000"))
STATIONS, DAYS, CHUNK = 20, 60, 500_000
BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)
END = BEGIN + timedelta(days=DAYS)

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


def load(engine: sa.Engine) -> float:
    """The rows, with indexes and keys made behind them: what a recorder does in months. Returns the
    seconds that it took."""
    began_s = time.perf_counter()
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
    return time.perf_counter() - began_s


if __name__ == "__main__":
    print(f"{load(open_database(sys.argv[1])):.0f} s")
