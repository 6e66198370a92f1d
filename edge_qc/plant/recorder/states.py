"""Which state each station was in, and when it did not judge, from what was said and observed.

A station says since when it is in a state, by its own clock. A last will carries the time at which
its connection was opened, so the broker's observation counts there. And a last will says only that
the connection is gone: if the same epoch is heard again, the station never died, and judged on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import groupby

from sqlalchemy import Connection, Engine, Row, select

from edge_qc.plant.recorder.tables import event, part, state_change, station, stream, verdict
from edge_qc.plant.recorder.where import Answer, Where, of_station
from edge_qc.publisher.messages import LOST_CONNECTION
from edge_qc.system.state import STOP_REQUESTED, STOPPED, State

AWAY = "AWAY"
"""A station that judged on, or stood still, without a connection to the broker."""
LIVED_ON = "no connection to the broker; the station lived on"
UNHEARD = "it started again; no message of its end was received"

_JUDGING = (State.RUNNING.value, State.DEGRADED.value)
_TABLES = (verdict, part, event)


@dataclass(frozen=True, slots=True)
class Period:
    """A station in one state. until: None while it lasts. said: the time in its message. observed:
    when the broker had that message; None if there was none. last_sign: of a DEAD, the time of the
    last verdict, part or event of the epoch that ended: it lived then."""

    station: str
    state: str
    since: datetime
    until: datetime | None
    why: str
    epoch: str
    judging: bool
    said: datetime | None
    observed: datetime | None
    last_sign: datetime | None = None

    def seconds(self, now: datetime) -> float:
        return ((self.until or now) - self.since).total_seconds()


def timeline(engine: Engine, where: Where) -> Answer:
    """Every state of every station, oldest first, that lasted into the span asked for."""
    now = datetime.now(timezone.utc)
    rows = [
        (
            one.station, one.state, one.since, one.until, one.seconds(now), one.judging, one.why,
            one.said, one.observed, one.last_sign, one.epoch,
        )
        for one in periods(engine, where)
    ]  # fmt: skip
    columns = ("station", "state", "from", "to", "seconds", "judging", "why", "said_at", "observed",
               "last_sign", "epoch")  # fmt: skip
    return Answer(columns, rows)


def downtime(engine: Engine, where: Where) -> Answer:
    """When a station did not judge. to: None while it lasts. planned: a person stopped it.
    last_sign: it lived then, if it died. A loss of the connection alone is no downtime."""
    now = datetime.now(timezone.utc)
    rows = []
    for (name, judging), those in groupby(
        periods(engine, where), lambda one: (one.station, one.judging)
    ):
        if judging:
            continue
        out = list(those)
        first, last = out[0], out[-1]
        states = list(dict.fromkeys(one.state for one in out))
        whole = replace(first, until=last.until)
        last_sign = next((one.last_sign for one in out if one.last_sign is not None), None)
        rows.append(
            (
                name, whole.since, whole.until, whole.seconds(now), _why(out),
                any(one.why in (STOP_REQUESTED, STOPPED) for one in out), " ".join(states),
                last_sign,
            )
        )  # fmt: skip
    columns = ("station", "from", "to", "seconds", "why", "planned", "states", "last_sign")
    return Answer(columns, rows)


def periods(engine: Engine, where: Where) -> list[Period]:
    """The periods of each station, one after the other, that reach into the span asked for."""
    with engine.connect() as db:
        rows = db.execute(
            select(state_change, station.c.site, station.c.name)
            .join(station, station.c.station_id == state_change.c.station_id)
            .where(*of_station(where))
            .order_by(station.c.site, station.c.name, state_change.c.change_no)
        ).all()
        found = [
            one
            for _, of_one in groupby(rows, lambda row: row.station_id)
            for one in _ended(_begun(db, list(of_one)))
        ]
    return [one for one in found if _reaches(one, where)]


def _begun(db: Connection, rows: list[Row]) -> Iterator[Period]:  # type: ignore[type-arg]
    """Each state with the moment at which it began, until the next; a station's own."""
    before: Period | None = None
    for row, follows in zip(rows, [*rows[1:], None], strict=True):
        name, since = f"{row.site}/{row.name}", min(row.time, row.observed)
        judging = row.state in _JUDGING
        last_sign = None
        if row.state == State.DEAD.value:
            if follows is not None and follows.epoch == row.epoch:
                judging = before is not None and before.judging
                before = Period(
                    name, AWAY, row.observed, None, LIVED_ON, row.epoch, judging, row.time,
                    row.observed,
                )  # fmt: skip
                yield before
                continue
            last_sign = _last_sign(db, row.station_id, row.epoch)
            if row.why == LOST_CONNECTION:
                since = _death(row.observed, last_sign, None if follows is None else follows.time)
        elif before is not None and before.state == AWAY and row.time <= before.since:
            # It was in this state all the while, and is heard again.
            since = row.observed
        elif before is not None and before.epoch != row.epoch and before.state != State.DEAD.value:
            sign = _last_sign(db, row.station_id, before.epoch)
            since_unheard = min(sign or since, since)
            before = Period(
                name, State.DEAD.value, max(since_unheard, before.since), None, UNHEARD,
                before.epoch, False, None, None, sign,
            )  # fmt: skip
            yield before
        if before is not None:
            since = max(since, before.since)
        before = Period(
            name, row.state, since, None, row.why, row.epoch, judging, row.time, row.observed,
            last_sign,
        )  # fmt: skip
        yield before


def _death(
    observed: datetime, last_sign: datetime | None, started_again: datetime | None
) -> datetime:
    """When a station died whose last will came: as observed, but not before its last sign of life,
    nor after it started again. A broker notices a power cut late, sometimes only by the new
    connection."""
    if last_sign is not None and (
        last_sign > observed or (started_again is not None and observed > started_again)
    ):
        observed = last_sign
    return observed if started_again is None else min(observed, started_again)


def _ended(begun: Iterable[Period]) -> Iterator[Period]:
    """The same periods, each until the next one begins."""
    before: Period | None = None
    for one in begun:
        if before is not None:
            yield replace(before, until=one.since)
        before = one
    if before is not None:
        yield before


def _why(out: list[Period]) -> str:
    """Why a station did not judge: what ended its judging, and not that it then started."""
    reasons = [one.why for one in out if one.why]
    return reasons[0] if reasons else ""


def _last_sign(db: Connection, station_id: int, epoch: str) -> datetime | None:
    """The time of the last message of an epoch; None if none is recorded."""
    found: list[datetime] = []
    for table in _TABLES:
        query = (
            select(table.c.time)
            .join(stream, stream.c.stream_id == table.c.stream_id)
            .where(stream.c.station_id == station_id, stream.c.epoch == epoch)
            .order_by(table.c.seq.desc())
            .limit(1)
        )
        found += db.execute(query).scalars().all()
    return max(found, default=None)


def _reaches(one: Period, where: Where) -> bool:
    return (where.since is None or one.until is None or one.until > where.since) and (
        where.until is None or one.since < where.until
    )
