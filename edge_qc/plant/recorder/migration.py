"""Upgrades a database of an older schema, within the transaction that opens it.

1 to 2: the tally by hours. 2 to 3: state changes in the order in which they were observed, lots and
serial numbers as columns, and what the station had said beside a person's label. 3 to 4: what of a
stream came and was deleted; gaps without the numbers that came since.
"""

from __future__ import annotations

import json

import sqlalchemy as sa

from edge_qc.plant.recorder import missing, tables
from edge_qc.plant.recorder.arrivals import plain
from edge_qc.plant.recorder.tallies import coarser

_LOCK = 4_011_982
"""Any number that no other program of this database locks."""


def alone(db: sa.Connection) -> None:
    """Let no other recorder create or upgrade tables until this transaction ends."""
    if db.dialect.name == "postgresql":
        db.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    else:
        # Python's SQLite would not put a change of the schema into the transaction by itself.
        db.exec_driver_sql("BEGIN IMMEDIATE")


def upgrade(db: sa.Connection, version: int) -> None:
    """Upgrade from ``version`` to the current schema."""
    if version < 2:
        _add_hours(db)
    if version < 3:
        _add_columns(db)
        _order_states(db)
        _fill_lots(db)
    db.execute(sa.text("ALTER TABLE stream ADD COLUMN pruned TEXT"))
    missing.correct_gaps(db)
    db.execute(tables.records.update().values(schema_version=tables.SCHEMA_VERSION))


def _add_hours(db: sa.Connection) -> None:
    quarters = db.execute(sa.select(tables.tally)).mappings()
    hours = list(coarser(quarters, tables.HOUR_S))
    if hours:
        db.execute(tables.tally_hour.insert(), hours)


def _add_columns(db: sa.Connection) -> None:
    for table in ("verdict", "part"):
        for column in ("lot", "serial"):
            db.execute(sa.text(f"ALTER TABLE {table} ADD COLUMN {column} TEXT"))
    for column in ("said", "via"):
        db.execute(sa.text(f"ALTER TABLE label ADD COLUMN {column} TEXT"))
    tables.verdict_lot.create(db)


def _order_states(db: sa.Connection) -> None:
    """Give each state change its own number. PostgreSQL keeps the table, since other accounts may
    have been granted its use; SQLite cannot change a primary key."""
    order = "received, time"
    if db.dialect.name != "postgresql":
        db.execute(sa.text("ALTER TABLE state_change RENAME TO state_change_2"))
        tables.state_change.create(db)
        db.execute(
            sa.text(
                "INSERT INTO state_change (station_id, time, epoch, state, why, observed, received)"
                " SELECT station_id, time, epoch, state, why, received, received"
                f" FROM state_change_2 ORDER BY {order}"
            )
        )
        db.execute(sa.text("DROP TABLE state_change_2"))
        return
    for statement in (
        "ALTER TABLE state_change DROP CONSTRAINT state_change_pkey",
        "ALTER TABLE state_change ADD COLUMN observed TIMESTAMPTZ, ADD COLUMN change_no INTEGER",
        "UPDATE state_change SET observed = received, change_no = place FROM (SELECT ctid AS at,"
        f" row_number() OVER (ORDER BY {order}) AS place FROM state_change) AS placed"
        " WHERE state_change.ctid = placed.at",
        "CREATE SEQUENCE state_change_change_no_seq OWNED BY state_change.change_no",
        "SELECT setval('state_change_change_no_seq',"
        " coalesce((SELECT max(change_no) FROM state_change), 0) + 1, false)",
        "ALTER TABLE state_change ALTER COLUMN observed SET NOT NULL,"
        " ALTER COLUMN change_no SET DEFAULT nextval('state_change_change_no_seq'),"
        " ADD PRIMARY KEY (change_no)",
    ):
        db.execute(sa.text(statement))
    tables.state_change_station.create(db)


def _fill_lots(db: sa.Connection) -> None:
    """Lots and serial numbers of messages that were recorded before they had columns."""
    for table in (tables.verdict, tables.part):
        key = list(table.primary_key.columns)
        told = sa.or_(
            *(
                table.c.payload.like(f'%"{name}":{blank}"%')
                for name in ("lot", "serial")
                for blank in ("", " ")
            )
        )
        rows = db.execute(sa.select(*key, table.c.payload).where(told)).all()
        for *where, payload in rows:
            fields = json.loads(payload)
            db.execute(
                table.update()
                .where(*(column == value for column, value in zip(key, where, strict=True)))
                .values(lot=plain(fields.get("lot")), serial=plain(fields.get("serial")))
            )
