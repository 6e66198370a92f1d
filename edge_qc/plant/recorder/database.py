"""Opening the database of records: SQLite by a file's name, PostgreSQL by its URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_qc.errors import RecordError, UsageError
from edge_qc.extras import how_to_install
from edge_qc.redaction import redacted, redacted_uri

try:
    import sqlalchemy as sa
except ImportError as error:
    raise RecordError(
        f"records need SQLAlchemy, which is not installed here: {how_to_install('record')}"
    ) from error

from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from edge_qc.plant.recorder import tables
from edge_qc.plant.recorder.tallies import coarser

_CONNECT = {"postgresql": {"client_encoding": "utf8"}}
"""A cluster that was made without a locale holds SQL_ASCII, and its texts would come as bytes."""

_PAGE = 50
"""Rows in one statement. A connection keeps a prepared statement for each number of rows that it
has met, up to a limit, and those of hundreds are large: a recorder took 50 MB for them."""


def open_database(name: str, *, create: bool = True) -> sa.Engine:
    """The database that ``name`` names: an SQLite file, or a URL (``postgresql://…``,
    ``sqlite:///…``). create: make the tables where they are missing.

    Raises UsageError for a name that is none, RecordError where it cannot be opened.
    """
    url = _url(name)
    if url.get_backend_name() == "sqlite":
        file = Path(url.database or "")
        if not create and not file.exists():
            raise RecordError(f"{file}: there are no records. Start edge-qc record, or name others")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordError(f"{file}: {error}") from error
    with _told(url):
        try:
            engine = sa.create_engine(
                url,
                pool_pre_ping=True,
                insertmanyvalues_page_size=_PAGE,
                connect_args=_CONNECT.get(url.get_backend_name(), {}),
            )
        except (ImportError, NoSuchModuleError) as error:
            raise RecordError(f"{error}: {how_to_install('record')}") from error
        if url.get_backend_name() == "sqlite":
            sa.event.listen(engine, "connect", _careful)
        _prepare(engine, create)
    return engine


@contextmanager
def wrapped(engine: sa.Engine) -> Iterator[None]:
    """Turns the database's errors into RecordError."""
    with _told(engine.url):
        yield


@contextmanager
def _told(url: sa.URL) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        raise RecordError(
            f"database {url.render_as_string(hide_password=True)}: {said[:400]}. See that it runs "
            "and that this account may use it"
        ) from error


def _url(name: str) -> sa.URL:
    if "://" not in name:
        return sa.URL.create("sqlite", database=name)
    try:
        url = sa.make_url(name)
    except ArgumentError as error:
        raise UsageError(
            f"--database {redacted_uri(name)!r} is neither a file nor a URL: "
            f"{redacted(str(error), name)}"
        ) from None
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise UsageError(f"--database {url.drivername}://…: records go to sqlite or postgresql")
    return url


def _careful(connection: Any, _record: Any) -> None:
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "busy_timeout=10000",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _prepare(engine: sa.Engine, create: bool) -> None:
    if not create and not sa.inspect(engine).has_table(tables.records.name):
        raise RecordError(
            f"database {engine.url.render_as_string(hide_password=True)} holds no records: start "
            "edge-qc record, or name another"
        )
    with engine.begin() as db:
        if create:
            tables.metadata.create_all(db)
        version = db.execute(sa.select(sa.func.max(tables.records.c.schema_version))).scalar()
        if version is None:
            db.execute(tables.records.insert().values(schema_version=tables.SCHEMA_VERSION))
        elif version > tables.SCHEMA_VERSION:
            raise RecordError(
                f"the records are of schema {version}, this edge-qc reads up to "
                f"{tables.SCHEMA_VERSION}: install the edge-qc that wrote them"
            )
        elif version < tables.SCHEMA_VERSION and not create:
            raise RecordError(
                f"the records are of schema {version}, this edge-qc reads {tables.SCHEMA_VERSION}: "
                "start its edge-qc record on them once, which adds what is new"
            )
        elif version < tables.SCHEMA_VERSION:
            _add_hours(db)
            db.execute(tables.records.update().values(schema_version=tables.SCHEMA_VERSION))


def _add_hours(db: sa.Connection) -> None:
    """From the first schema to the second: the tally by hours, out of that by their quarters."""
    quarters = db.execute(sa.select(tables.tally)).mappings()
    hours = list(coarser(quarters, tables.HOUR_S))
    if hours:
        db.execute(tables.tally_hour.insert(), hours)
