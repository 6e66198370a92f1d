"""Adds many rows to a table in one statement, and leaves out or adds up those that are there.

PostgreSQL gets them as one JSON text: the same short statement however many rows there are. The
driver would parse VALUES with thousands of placeholders again for each group, and escape each text
of an array in Python: either took half of the recorder's time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Table, Text, bindparam, cast, func, select, text
from sqlalchemy.dialects import postgresql, sqlite

Rows = Sequence[dict[str, Any]]
"""All with the same columns."""


def add_rows(db: Connection, table: Table, rows: Rows, told: Column[Any]) -> list[Any]:
    """Insert the rows that conflict with none, in their order. Returns these rows' values of the
    column ``told``."""
    if not rows:
        return []
    statement = _insert(db, table, rows).on_conflict_do_nothing().returning(told)
    return list(db.execute(statement, _given(db, rows)).scalars())


def add_up(db: Connection, table: Table, rows: Rows, sums: Sequence[str]) -> None:
    """Insert rows, no two of one key, or add their ``sums`` to those of the row with their key."""
    if not rows:
        return
    statement = _insert(db, table, rows)
    db.execute(
        statement.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={name: table.c[name] + statement.excluded[name] for name in sums},
        ),
        _given(db, rows),
    )


def _insert(db: Connection, table: Table, rows: Rows) -> Any:
    if db.dialect.name != "postgresql":
        return sqlite.insert(table)
    names = list(rows[0])
    given = func.json_populate_recordset(
        text(f"NULL::{table.name}"), cast(bindparam("rows", type_=Text), postgresql.JSON)
    ).table_valued(*names, name="given")
    return postgresql.insert(table).from_select(names, select(*(given.c[name] for name in names)))


def _given(db: Connection, rows: Rows) -> Any:
    if db.dialect.name != "postgresql":
        return rows
    return {"rows": json.dumps(rows, default=datetime.isoformat)}
