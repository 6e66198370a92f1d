"""The keys of stations, bundles and streams, and which numbers of a stream are settled.

Held in memory and read back from the tables; call ``forget`` whenever a transaction was not
committed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Table, select

from edge_qc.plant.recorder.arrivals import Source
from edge_qc.plant.recorder.missing import OF_KIND, pruned_of
from edge_qc.plant.recorder.progress import Progress, Range
from edge_qc.plant.recorder.tables import (
    bundle,
    gap,
    set_aside,
    station,
    stream,
)
from edge_qc.publisher import Kind

TABLES = {Kind(kind): table for kind, table in OF_KIND.items()}
_MOST_STREAMS = 16_384
"""Of five thousand stations; some kilobytes each where numbers are missing, else less than one."""

StreamKey = tuple[Source, str, Kind]
"""A station, its epoch, and the kind."""


@dataclass(slots=True)
class Stream:
    """upto: what was acknowledged of it."""

    stream_id: int
    station_id: int
    progress: Progress
    upto: int


class Catalogue:
    """Used from one thread."""

    def __init__(self, insert: Callable[[Table], Any]) -> None:
        """insert: the database dialect's own, which handles conflicts."""
        self._insert = insert
        self._streams: dict[StreamKey, Stream] = {}
        self._absent: set[StreamKey] = set()
        self._stations: dict[Source, int] = {}
        self._bundles: dict[str, int] = {}

    def begin(self) -> None:
        """Call it before a transaction: limits what is held in memory."""
        if len(self._streams) > _MOST_STREAMS:
            # Only those that were not used for longest, since a plant would read all others again.
            for key in list(self._streams)[:-_MOST_STREAMS]:
                del self._streams[key]
        if len(self._absent) > _MOST_STREAMS:
            self._absent.clear()

    def forget(self) -> None:
        """Drop everything noted since the last commit."""
        self._streams.clear()
        self._absent.clear()
        self._stations.clear()
        self._bundles.clear()

    def upto(self, engine: Engine, key: StreamKey) -> int:
        """What was acknowledged of a stream; 0 if there is none. The database is asked only once
        for one that is not there, since nobody else adds it."""
        known = self._streams.get(key)
        if known is not None or key in self._absent:
            return known.upto if known is not None else 0
        source, epoch, kind = key
        with engine.connect() as db:
            found = db.execute(
                select(stream.c.upto)
                .join(station)
                .where(
                    station.c.site == source.site,
                    station.c.name == source.name,
                    stream.c.epoch == epoch,
                    stream.c.kind == kind.value,
                )
            ).scalar_one_or_none()
        if found is None:
            self._absent.add(key)
        return int(found or 0)

    def stream(self, db: Connection, key: StreamKey, now: datetime) -> Stream:
        """The stream, created if missing; its settled numbers are read once."""
        known = self._streams.pop(key, None)
        if known is not None:
            self._streams[key] = known
            return known
        self._absent.discard(key)
        source, epoch, kind = key
        station_id = self.station_id(db, source)
        fields = {"station_id": station_id, "epoch": epoch, "kind": kind.value}
        new = db.execute(
            self._insert(stream).on_conflict_do_nothing().returning(stream.c.stream_id),
            {**fields, "upto": 0, "first_received": now},
        ).scalar_one_or_none()
        if new is not None:
            known = Stream(new, station_id, Progress(), 0)
        else:
            found = db.execute(
                select(stream.c.stream_id, stream.c.upto, stream.c.pruned).where(
                    *(stream.c[name] == value for name, value in fields.items())
                )
            ).one()
            deleted = pruned_of(found.pruned)
            settled = _progress(db, TABLES[kind], found.stream_id, found.upto, deleted)
            known = Stream(found.stream_id, station_id, settled, found.upto)
        self._streams[key] = known
        return known

    def station_id(self, db: Connection, source: Source) -> int:
        """The station's number."""
        if source not in self._stations:
            fields = {"site": source.site, "name": source.name}
            db.execute(self._insert(station).on_conflict_do_nothing(), [fields])
            self._stations[source] = db.execute(
                select(station.c.station_id).where(
                    station.c.site == source.site, station.c.name == source.name
                )
            ).scalar_one()
        return self._stations[source]

    def bundle_no(self, db: Connection, bundle_id: str, version: int | None) -> int:
        """The bundle's number."""
        if bundle_id not in self._bundles:
            fields = {"bundle_id": bundle_id, "version": version}
            db.execute(self._insert(bundle).on_conflict_do_nothing(), [fields])
            self._bundles[bundle_id] = db.execute(
                select(bundle.c.bundle_no).where(bundle.c.bundle_id == bundle_id)
            ).scalar_one()
        return self._bundles[bundle_id]


def _progress(
    db: Connection, table: Table, stream_id: int, upto: int, deleted: list[Range]
) -> Progress:
    """What is settled of a stream, as the tables say. deleted: what came and was deleted since."""
    progress = Progress([(1, upto), *deleted] if upto else deleted)
    for first, last in db.execute(
        select(gap.c.first, gap.c.last).where(gap.c.stream_id == stream_id)
    ):
        progress.give_up(first, last)
        progress.lost.add(first, last)
    for held in (table, set_aside):
        for (seq,) in db.execute(
            select(held.c.seq).where(held.c.stream_id == stream_id, held.c.seq > upto)
        ):
            progress.add(seq)
    return progress
