"""A database of an earlier schema opened by today's recorder; SQLite and PostgreSQL."""

from __future__ import annotations

import json
from datetime import time, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa

from edge_qc.errors import RecordError
from edge_qc.plant.recorder import Store, counts, open_database, queries, truths
from edge_qc.plant.recorder import tables as t
from edge_qc.plant.recorder.labels import add_labels
from edge_qc.plant.recorder.where import Shifts, Where
from tests.rig.publishing import TIME
from tests.rig.recording import arrived, verdict

SHIFTS = Shifts((time(6),), timezone.utc)


def state(name: str, after_s: float) -> bytes:
    message = {
        "schema": "edge-qc/state/1",
        "epoch": "e1",
        "site": "s",
        "station": "n",
        "state": name,
        "time": (TIME + timedelta(seconds=after_s)).isoformat(),
    }
    return json.dumps(message).encode()


def back_to_second_schema(engine: sa.Engine) -> None:
    """As the recorder before made it, with what it had recorded."""
    when = "TIMESTAMPTZ" if engine.dialect.name == "postgresql" else "DATETIME"
    with engine.begin() as db:
        states = db.execute(sa.select(t.state_change)).mappings().all()
        t.state_change.drop(db)
        db.execute(
            sa.text(
                f"CREATE TABLE state_change (station_id INTEGER NOT NULL, time {when} NOT NULL,"
                " epoch TEXT NOT NULL, state TEXT NOT NULL, why TEXT NOT NULL,"
                f" received {when} NOT NULL, PRIMARY KEY (station_id, time, epoch, state),"
                " FOREIGN KEY(station_id) REFERENCES station (station_id))"
            )
        )
        before = sa.Table("state_change", sa.MetaData(), *(
            sa.Column(c.name, c.type) for c in t.state_change.columns
            if c.name not in ("change_no", "observed")
        ))  # fmt: skip
        kept = [{c.name: row[c.name] for c in before.columns} for row in states]
        if kept:
            db.execute(before.insert(), kept)
        t.verdict_lot.drop(db)
        for table, column in (("verdict", "lot"), ("verdict", "serial"), ("part", "lot"),
                              ("part", "serial"), ("label", "said"), ("label", "via")):  # fmt: skip
            db.execute(sa.text(f"ALTER TABLE {table} DROP COLUMN {column}"))
        db.execute(sa.text("ALTER TABLE stream DROP COLUMN pruned"))
        db.execute(t.records.update().values(schema_version=2))


def back_to_third_schema(engine: sa.Engine) -> None:
    with engine.begin() as db:
        db.execute(sa.text("ALTER TABLE stream DROP COLUMN pruned"))
        db.execute(t.records.update().values(schema_version=3))


def told(engine: sa.Engine) -> dict[str, Any]:
    with engine.connect() as db:
        found = {
            table.name: db.execute(sa.select(table).order_by(*table.primary_key)).all()
            for table in (t.verdict, t.part, t.label, t.tally_hour)
        }
        states = db.execute(sa.select(t.state_change).order_by(t.state_change.c.change_no))
        found["states"] = [(row.state, row.time) for row in states]
    return found


@pytest.mark.parametrize("before", [1, 2])
def test_records_of_an_earlier_schema_lose_nothing_and_go_on(database: str, before: int) -> None:
    engine = open_database(database)
    lot = {"lot": "lot-7", "serial": "0042"}
    store = Store(engine)
    store.record(arrived(state("STARTING", 0), state("RUNNING", 5), level="state"))
    store.record(arrived(*(verdict(n, **(lot if n % 2 else {})) for n in range(1, 9))))
    add_labels(engine, ["e1-1"], "Missing", by="ann")
    as_it_was = told(engine)
    hours = counts.yields(engine, Where(), ("hour",), SHIFTS).rows
    back_to_second_schema(engine)
    if before == 1:
        with engine.begin() as db:
            t.tally_hour.drop(db)
            db.execute(t.records.update().values(schema_version=1))
    engine.dispose()

    with pytest.raises(RecordError, match="edge-qc record once to upgrade"):
        open_database(database, create=False)
    for _ in range(2):
        again = open_database(database)
        found = told(again)
        for name in ("verdict", "part", "tally_hour", "states"):
            assert found[name] == as_it_was[name], name
        assert [row.truth for row in found["label"]] == ["Missing"]
        assert counts.yields(again, Where(), ("hour",), SHIFTS).rows == hours
        again.dispose()
    again = open_database(database)
    Store(again).record(arrived(state("DEGRADED", 9), level="state"))
    Store(again).record(arrived(verdict(9, **lot)))
    assert [name for name, _ in told(again)["states"]] == ["STARTING", "RUNNING", "DEGRADED"]
    add_labels(again, ["e1-1"], "GOOD", by="bob")
    assert truths.escapes(again, Where()).rows == []
    again.dispose()


def test_a_number_that_came_before_the_upgrade_is_missing_no_more(database: str) -> None:
    engine = open_database(database)
    Store(engine).record(arrived(verdict(1), verdict(6, after=1), verdict(3)))
    back_to_third_schema(engine)
    with engine.begin() as db:
        db.execute(sa.delete(t.gap).where(t.gap.c.first == 4))
        db.execute(sa.update(t.gap).values(first=2, last=5))
    engine.dispose()
    again = open_database(database)
    Store(again).prune(TIME + timedelta(days=1))
    assert [row[4:] for row in queries.gaps(again).rows] == [(2, 2, 1, True), (4, 5, 2, True)]
    again.dispose()


@pytest.mark.postgres
def test_other_accounts_may_read_what_they_could_read_before(postgres: str) -> None:
    """A dashboard's account was granted the table of states."""
    from tests.rig.database_fixtures import fresh

    name = fresh(postgres)
    engine = open_database(name)
    back_to_second_schema(engine)
    role = name.rpartition("/")[2]
    with engine.begin() as db:
        db.execute(sa.text(f"CREATE ROLE r{role}"))
        db.execute(sa.text(f"GRANT SELECT ON state_change TO r{role}"))
    engine.dispose()
    again = open_database(name)
    with again.connect() as db:
        may = sa.text(f"SELECT has_table_privilege('r{role}', 'state_change', 'select')")
        assert db.execute(may).scalar() is True
    again.dispose()
