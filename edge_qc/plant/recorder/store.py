"""The recorder's database: commits messages in groups, each once, with their tallies.

The settled numbers of a stream are held in memory and read back from the tables at the next start,
so that an acknowledgement covers only committed messages. One recorder writes a database.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    bindparam,
    delete,
    false,
    func,
    insert,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from edge_qc.evidence import Label
from edge_qc.plant.recorder.adding import add_rows, add_up
from edge_qc.plant.recorder.arrivals import Arrival, Source, columns, label_of
from edge_qc.plant.recorder.catalogue import TABLES, Catalogue, Stream, StreamKey
from edge_qc.plant.recorder.labels import add_new, take_in
from edge_qc.plant.recorder.missing import have_come, note_pruned
from edge_qc.plant.recorder.observing import record_state
from edge_qc.plant.recorder.progress import Range
from edge_qc.plant.recorder.tables import (
    TALLIES,
    bundle,
    event,
    gap,
    label,
    set_aside,
    state_change,
    stream,
    verdict,
)
from edge_qc.plant.recorder.tallies import SUMS, sums_of
from edge_qc.publisher import Kind, OverruleMessage, VerdictMessage


@dataclass(frozen=True, slots=True)
class Recorded:
    """The result of one commit. upto: the cumulative acknowledgement of each stream in it."""

    upto: dict[StreamKey, int]
    new: int
    repeated: int
    lost: list[tuple[StreamKey, Range]]
    set_aside: int


class Store:
    """Used from one thread."""

    def __init__(self, engine: Engine) -> None:
        """engine: of a database that ``database.open_database`` prepared."""
        self._engine = engine
        self._insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
        self._catalogue = Catalogue(self._insert)

    def record(self, arrivals: Sequence[Arrival]) -> Recorded:
        """Commit messages. Raises sqlalchemy.exc.SQLAlchemyError, and records nothing, if the
        database fails."""
        try:
            return self._record(arrivals, poison=frozenset())
        except (SQLAlchemyError, UnicodeError, OverflowError) as error:
            if not _is_poison(error):
                raise
            # This database cannot store one of them: find it, and record the others.
            poison = frozenset(
                number for number, one in enumerate(arrivals) if not self._is_storable(one)
            )
            return self._record(arrivals, poison)

    def upto(self, source: Source, epoch: str, kind: Kind) -> int:
        """The acknowledgement of a stream; 0 if it is unknown."""
        return self._catalogue.upto(self._engine, (source, epoch, kind))

    def keep_costs(self, bundle_id: str, version: int, costs: str) -> None:
        """Store a bundle's cost matrix (JSON: true label, given label, cost)."""
        with self._engine.begin() as db:
            number = self._catalogue.bundle_no(db, bundle_id, version)
            db.execute(
                update(bundle)
                .where(bundle.c.bundle_no == number)
                .values(version=version, costs=costs)
            )

    def take_in(self, given: Iterable[Label]) -> int:
        """Record people's labels that are not recorded yet, and return how many. Raises
        RecordError."""
        return take_in(self._engine, given)

    def prune(self, before: datetime, most: int = 5000) -> int:
        """Delete messages older than ``before``, up to a limit per table: stations wait for their
        acknowledgements meanwhile. Returns how many. Tallies stay, and so do verdicts on parts,
        which have no tally, every labelled verdict and each station's last state."""
        last = select(func.max(state_change.c.change_no)).group_by(state_change.c.station_id)
        labelled = select(label.c.label_no).where(label.c.verdict_id == verdict.c.verdict_id)
        gone = 0
        with self._engine.begin() as db:
            for table, when, kept in (
                (verdict, verdict.c.time, labelled.exists()),
                (event, event.c.time, false()),
                (state_change, state_change.c.observed, state_change.c.change_no.in_(last)),
            ):
                key = tuple(table.primary_key)
                old = select(*key).where(when < before, ~kept).order_by(when).limit(most)
                these = delete(table).where(tuple_(*key).in_(old))
                if table is state_change:
                    gone += db.execute(these).rowcount
                    continue
                deleted = db.execute(these.returning(table.c.stream_id, table.c.seq)).all()
                note_pruned(db, [(stream_id, seq) for stream_id, seq in deleted])
                gone += len(deleted)
        return gone

    def _is_storable(self, one: Arrival) -> bool:
        try:
            with self._engine.connect() as db:
                self._write(db, [one], frozenset())
                db.rollback()
        except (SQLAlchemyError, UnicodeError, OverflowError) as error:
            if not _is_poison(error):
                raise
            return False
        finally:
            self._catalogue.forget()
        return True

    def _record(self, arrivals: Sequence[Arrival], poison: frozenset[int]) -> Recorded:
        try:
            with self._engine.begin() as db:
                return self._write(db, arrivals, poison)
        except BaseException:
            self._catalogue.forget()
            raise

    def _write(
        self, db: Connection, arrivals: Sequence[Arrival], poison: frozenset[int]
    ) -> Recorded:
        self._catalogue.begin()
        now = datetime.now(timezone.utc)
        touched: dict[StreamKey, Stream] = {}
        rows: dict[Kind, list[dict[str, Any]]] = {kind: [] for kind in TABLES}
        aside: list[dict[str, Any]] = []
        lost: list[tuple[StreamKey, Range]] = []
        come: dict[int, list[int]] = {}
        repeated = 0
        for number, one in enumerate(arrivals):
            if one.seq is None:
                if number not in poison:
                    self._add_unnumbered(db, one, now)
                continue
            key = (one.source, one.epoch, one.kind)
            known = touched[key] = self._catalogue.stream(db, key, now)
            if one.after is not None and one.after + 1 < one.seq:
                lost += [
                    (key, missing) for missing in known.progress.give_up(one.after + 1, one.seq - 1)
                ]
            if not known.progress.wants(one.seq):
                repeated += 1
                continue
            if one.seq in known.progress.lost:
                come.setdefault(known.stream_id, []).append(one.seq)
            known.progress.add(one.seq)
            if one.message is None or number in poison:
                why = one.fault or "the database cannot hold it"
                aside.append(_aside(known, one.seq, why, one.payload, now))
            else:
                rows[one.kind].append(self._row(db, one, known, now))
        for key, (first, last) in lost:
            db.execute(
                insert(gap).values(
                    stream_id=touched[key].stream_id, first=first, last=last, received=now
                )
            )
        have_come(db, come)
        aside += self._add_verdicts(db, rows[Kind.VERDICT], now)
        for kind in (Kind.PART, Kind.EVENT):
            add_rows(db, TABLES[kind], rows[kind], TABLES[kind].c.seq)
        add_rows(db, set_aside, aside, set_aside.c.seq)
        upto = {key: known.progress.upto for key, known in touched.items()}
        grown = [known for known in touched.values() if known.upto != known.progress.upto]
        if grown:
            # All at once: with hundreds of stations each message may be of another stream.
            db.execute(
                update(stream)
                .where(stream.c.stream_id == bindparam("of"))
                .values(upto=bindparam("now_upto")),
                [{"of": known.stream_id, "now_upto": known.progress.upto} for known in grown],
            )
        for known in grown:
            known.upto = known.progress.upto
        new = sum(map(len, rows.values()))
        return Recorded(upto, new, repeated, lost, len(aside))

    def _add_verdicts(
        self, db: Connection, rows: list[dict[str, Any]], now: datetime
    ) -> list[dict[str, Any]]:
        """Insert verdicts and count them. Returns those whose id is already recorded under another
        number, to be set aside: a station that lost its last writes judges such a trigger again."""
        if not rows:
            return []
        taken = set(add_rows(db, verdict, rows, verdict.c.verdict_id))
        added, again = [], []
        for row in rows:
            if row["verdict_id"] in taken:
                taken.remove(row["verdict_id"])
                added.append(row)
            else:
                again.append(row)
        self._count(db, added)
        return [
            {
                "stream_id": row["stream_id"],
                "seq": row["seq"],
                "why": f"verdict {row['verdict_id']} is already recorded under another number",
                "payload": row["payload"],
                "received": now,
            }
            for row in again
        ]

    def _count(self, db: Connection, rows: Iterable[dict[str, Any]]) -> None:
        found = list(rows)
        for table, grain_s in TALLIES:
            add_up(db, table, list(sums_of(found, grain_s)), SUMS)

    def _row(self, db: Connection, one: Arrival, known: Stream, now: datetime) -> dict[str, Any]:
        row = columns(one, now) | {"stream_id": known.stream_id, "station_id": known.station_id}
        if isinstance(one.message, VerdictMessage):
            made_by = one.message.bundle
            row["bundle_no"] = (
                None
                if made_by is None
                else self._catalogue.bundle_no(db, made_by.id, made_by.version)
            )
        return row

    def _add_unnumbered(self, db: Connection, one: Arrival, now: datetime) -> None:
        """A state, or an overrule: a label is known by what it says and needs no number."""
        if isinstance(one.message, OverruleMessage):
            add_new(db, label_of(one.message), "overrule")
        elif one.message is not None:
            record_state(db, one, self._catalogue.station_id(db, one.source), now)


def _is_poison(error: Exception) -> bool:
    """Whether the database rejects a message, rather than failing itself."""
    if not isinstance(error, DBAPIError) or isinstance(error, (DataError, IntegrityError)):
        return True
    # PostgreSQL's class 54: a text too long for an index.
    return (getattr(error.orig, "sqlstate", None) or "").startswith("54")


def _aside(known: Stream, seq: int, why: str, payload: str, now: datetime) -> dict[str, Any]:
    return {
        "stream_id": known.stream_id,
        "seq": seq,
        "why": why[:2000],
        "payload": payload.replace("\0", "\N{REPLACEMENT CHARACTER}"),
        "received": now,
    }
