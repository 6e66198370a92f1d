"""The keys of stations, bundles and streams, and which numbers of a stream are settled.

Held in memory and read back from the tables; call ``forget`` whenever a transaction was not
committed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, select

from edge_qc.plant.recorder.arrivals import Source
from edge_qc.plant.recorder.progress import Progress, Range
from edge_qc.plant.recorder.tables import (
    bundle,
    event,
    gap,
    part,
    set_aside,
    station,
    stream,
    verdict,
)
from edge_qc.publisher import Kind

TABLES = {Kind.VERDICT: verdict, Kind.PART: part, Kind.EVENT: event}
_MOST_STREAMS = 4096

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
        self._stations: dict[Source, int] = {}
        self._bundles: dict[str, int] = {}

    def begin(self) -> None:
        """Call it before a transaction: limits what is held in memory."""
        if len(self._streams) > _MOST_STREAMS:
            self._streams.clear()

    def forget(self) -> None:
        """Drop everything noted since the last commit."""
        self._streams.clear()
        self._stations.clear()
        self._bundles.clear()

    def known(self, key: StreamKey) -> Stream | None:
        """The stream, if it is in memory."""
        return self._streams.get(key)

    def stream(self, db: Connection, key: StreamKey, now: datetime) -> Stream:
        """The stream, created if missing; its settled numbers are read once."""
        known = self._streams.get(key)
        if known is not None:
            return known
        source, epoch, kind = key
        station_id = self.station_id(db, source)
        fields = {"station_id": station_id, "epoch": epoch, "kind": kind.value}
        db.execute(
            self._insert(stream).on_conflict_do_nothing(),
            [{**fields, "upto": 0, "first_received": now}],
        )
        found = db.execute(
            select(stream.c.stream_id, stream.c.upto).where(
                *(stream.c[name] == value for name, value in fields.items())
            )
        ).one()
        known = self._streams[key] = Stream(
            found.stream_id,
            station_id,
            _progress(db, TABLES[kind], found.stream_id, found.upto),
            found.upto,
        )
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


def _progress(db: Connection, table: Table, stream_id: int, upto: int) -> Progress:
    """What is settled of a stream, as the tables say."""
    progress = Progress([(1, upto)] if upto else [])
    lost: list[Range] = [
        (first, last)
        for first, last in db.execute(
            select(gap.c.first, gap.c.last).where(gap.c.stream_id == stream_id)
        )
    ]
    for first, last in lost:
        progress.give_up(first, last)
        progress.lost.add(first, last)
    for held in (table, set_aside):
        for (seq,) in db.execute(
            select(held.c.seq).where(held.c.stream_id == stream_id, held.c.seq > upto)
        ):
            progress.add(seq)
        for first, last in lost:
            for (seq,) in db.execute(
                select(held.c.seq).where(
                    held.c.stream_id == stream_id, held.c.seq.between(first, last)
                )
            ):
                progress.add(seq)
    return progress
