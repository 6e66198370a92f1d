"""Records states as they are observed: each change once, in the order in which the broker had them.

A broker repeats what it has kept: at each subscription the last state, and after a crash also what
it had delivered. The same state after another one is new: a station that was away is heard again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, insert, select

from edge_qc.plant.recorder.arrivals import Arrival, columns
from edge_qc.plant.recorder.tables import state_change

_SAME_MOMENT = timedelta(seconds=2)
"""Brokers count how long they keep a message in whole seconds."""


def record_state(db: Connection, one: Arrival, station_id: int, now: datetime) -> None:
    """Record a state unless it is recorded. one: a state that could be read."""
    row = columns(one, now) | {"station_id": station_id}
    if not _is_known(db, row, one):
        db.execute(insert(state_change), [row])


def _is_known(db: Connection, row: dict[str, Any], one: Arrival) -> bool:
    mine = state_change.c.station_id == row["station_id"]
    last = db.execute(
        select(state_change).where(mine).order_by(state_change.c.change_no.desc()).limit(1)
    ).first()
    if last is None:
        return False
    said = {name: row[name] for name in ("epoch", "state", "time", "why")}
    if all(getattr(last, name) == value for name, value in said.items()):
        return True
    same = [state_change.c[name] == value for name, value in said.items()]
    known = select(state_change.c.change_no).where(mine, *same)
    if one.observed is None:
        # The broker does not say when it had it.
        return one.repeated and db.execute(known.limit(1)).first() is not None
    known = known.where(state_change.c.observed >= one.observed - _SAME_MOMENT)
    if one.repeated:
        if one.observed < last.observed - _SAME_MOMENT:
            return True
    else:
        # What was recorded as later may have been before: this machine's clock was set back.
        known = known.where(state_change.c.observed <= one.observed + _SAME_MOMENT)
    return db.execute(known.limit(1)).first() is not None
