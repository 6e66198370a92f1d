"""The recorder's tables, for SQLite and PostgreSQL alike. docs/records.md explains each column.

Only the schema; ``store`` writes, ``queries`` and ``labels`` read. Tables may gain columns, never
lose or rename one: other people's dashboards read them.
"""

from __future__ import annotations

from datetime import datetime, timezone

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

SCHEMA_VERSION = 4
BUCKET_S, HOUR_S, DAY_S = 900, 3_600, 86_400
"""The grain of ``tally``, a quarter of an hour, so that shifts may begin at any of them; those of
``tally_hour`` and ``tally_day``, the same counts by hours and days of UTC, for questions about
months. ``migration`` says what each schema added."""

metadata = MetaData()


class UtcTime(TypeDecorator[datetime]):
    """timestamptz in PostgreSQL; in SQLite, which has none, UTC without a zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        value = value.astimezone(timezone.utc)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value


_Count = BigInteger().with_variant(Integer, "sqlite")

records = Table("records", metadata, Column("schema_version", Integer, nullable=False))

station = Table(
    "station",
    metadata,
    Column("station_id", Integer, primary_key=True),
    Column("site", Text, nullable=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("site", "name"),
)

stream = Table(
    "stream",
    metadata,
    Column("stream_id", Integer, primary_key=True),
    Column("station_id", ForeignKey("station.station_id"), nullable=False),
    Column("epoch", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("upto", _Count, nullable=False),
    Column("first_received", UtcTime, nullable=False),
    Column("pruned", Text),
    UniqueConstraint("station_id", "epoch", "kind"),
)

gap = Table(
    "gap",
    metadata,
    Column("gap_id", Integer, primary_key=True),
    Column("stream_id", ForeignKey("stream.stream_id"), nullable=False, index=True),
    Column("first", _Count, nullable=False),
    Column("last", _Count, nullable=False),
    Column("received", UtcTime, nullable=False),
)

set_aside = Table(
    "set_aside",
    metadata,
    Column("stream_id", ForeignKey("stream.stream_id"), primary_key=True),
    Column("seq", _Count, primary_key=True),
    Column("why", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("received", UtcTime, nullable=False),
)

bundle = Table(
    "bundle",
    metadata,
    Column("bundle_no", Integer, primary_key=True),
    Column("bundle_id", Text, nullable=False, unique=True),
    Column("version", Integer),
    Column("costs", Text),
)

verdict = Table(
    "verdict",
    metadata,
    Column("verdict_id", Text, primary_key=True),
    Column("stream_id", ForeignKey("stream.stream_id"), nullable=False),
    Column("seq", _Count, nullable=False),
    Column("station_id", ForeignKey("station.station_id"), nullable=False),
    Column("camera", Text, nullable=False),
    Column("die", Text),
    Column("part_id", Text),
    Column("lot", Text),
    Column("serial", Text),
    Column("time", UtcTime, nullable=False),
    Column("label", Text, nullable=False),
    Column("disposition", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("drift_score", Double),
    Column("drift_p", Double),
    Column("expected_cost", Double),
    Column("bundle_no", ForeignKey("bundle.bundle_no")),
    Column("latency_ms", Double),
    Column("historical", Boolean, nullable=False),
    Column("received", UtcTime, nullable=False),
    Column("payload", Text, nullable=False),
    UniqueConstraint("stream_id", "seq"),
)
Index("verdict_time", verdict.c.time)
Index("verdict_station_time", verdict.c.station_id, verdict.c.time)
Index(
    "verdict_not_passed",
    verdict.c.time,
    postgresql_where=verdict.c.disposition != "PASS",
    sqlite_where=verdict.c.disposition != "PASS",
)
Index(
    "verdict_part",
    verdict.c.part_id,
    postgresql_where=verdict.c.part_id.is_not(None),
    sqlite_where=verdict.c.part_id.is_not(None),
)
verdict_lot = Index(
    "verdict_lot",
    verdict.c.lot,
    postgresql_where=verdict.c.lot.is_not(None),
    sqlite_where=verdict.c.lot.is_not(None),
)


def _tally(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("bucket", UtcTime, primary_key=True),
        Column("station_id", ForeignKey("station.station_id"), primary_key=True),
        Column("die", Text, primary_key=True),
        Column("bundle_no", Integer, primary_key=True),
        Column("label", Text, primary_key=True),
        Column("disposition", Text, primary_key=True),
        Column("reason", Text, primary_key=True),
        # Not bigint, since PostgreSQL sums it with slow decimal numbers.
        Column("n", Integer, nullable=False),
        Column("drift_n", Integer, nullable=False),
        Column("drift_sum", Double, nullable=False),
        Column("drift_squares", Double, nullable=False),
        Column("expected_cost", Double, nullable=False),
        Column("latency_n", Integer, nullable=False),
        Column("latency_sum_ms", Double, nullable=False),
        Index(f"{name}_station", "station_id", "bucket"),
    )


tally = _tally("tally")
tally_hour = _tally("tally_hour")
tally_day = _tally("tally_day")
TALLIES = ((tally_day, DAY_S), (tally_hour, HOUR_S), (tally, BUCKET_S))
"""Each with its grain in seconds, the coarsest first."""

part = Table(
    "part",
    metadata,
    Column("stream_id", ForeignKey("stream.stream_id"), primary_key=True),
    Column("seq", _Count, primary_key=True),
    Column("station_id", ForeignKey("station.station_id"), nullable=False),
    Column("part_id", Text, nullable=False, index=True),
    Column("lot", Text),
    Column("serial", Text),
    Column("time", UtcTime, nullable=False, index=True),
    Column("label", Text, nullable=False),
    Column("disposition", Text, nullable=False),
    Column("complete", Boolean, nullable=False),
    Column("historical", Boolean, nullable=False),
    Column("received", UtcTime, nullable=False),
    Column("payload", Text, nullable=False),
)

event = Table(
    "event",
    metadata,
    Column("stream_id", ForeignKey("stream.stream_id"), primary_key=True),
    Column("seq", _Count, primary_key=True),
    Column("station_id", ForeignKey("station.station_id"), nullable=False),
    Column("event", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("time", UtcTime, nullable=False, index=True),
    Column("camera", Text),
    Column("detail", Text, nullable=False),
    Column("historical", Boolean, nullable=False),
    Column("received", UtcTime, nullable=False),
    Column("payload", Text, nullable=False),
)

state_change = Table(
    "state_change",
    metadata,
    Column("change_no", Integer, primary_key=True),
    Column("station_id", ForeignKey("station.station_id"), nullable=False),
    Column("time", UtcTime, nullable=False),
    Column("epoch", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("observed", UtcTime, nullable=False),
    Column("received", UtcTime, nullable=False),
)
"""As observed, in the order in which the broker had them: a state may come again after a DEAD that
was none. ``states`` reads it."""
state_change_station = Index(
    "state_change_station", state_change.c.station_id, state_change.c.change_no
)

label = Table(
    "label",
    metadata,
    Column("label_no", Integer, primary_key=True),
    Column("verdict_id", Text, nullable=False, index=True),
    Column("truth", Text, nullable=False),
    Column("labelled_by", Text, nullable=False),
    Column("time", UtcTime, nullable=False),
    Column("note", Text, nullable=False),
    Column("said", Text),
    Column("via", Text),
)
