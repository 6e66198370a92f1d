"""Opens the records database: SQLite by file name, PostgreSQL by URL."""

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

from edge_qc.plant.recorder import migration, tables

_CONNECT = {"postgresql": {"client_encoding": "utf8"}}
"""A cluster created without a locale uses SQL_ASCII and would return texts as bytes."""

_PAGE = 50
"""Rows per statement. A connection caches a prepared statement for each number of rows, and those
for hundreds of rows are large: they took a recorder 50 MB."""


def open_database(name: str, *, create: bool = True) -> sa.Engine:
    """Open the database ``name``: an SQLite file, or a URL (``postgresql://…``, ``sqlite:///…``).
    create: create missing tables.

    Raises UsageError for an invalid name, RecordError if it cannot be opened.
    """
    url = _url(name)
    if url.get_backend_name() == "sqlite":
        file = Path(url.database or "")
        if not create and not file.exists():
            raise RecordError(
                f"{file}: no records found. Start edge-qc record, or correct --database"
            )
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
    """Turn the database's errors into RecordError."""
    with _told(engine.url):
        yield


@contextmanager
def _told(url: sa.URL) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        step = "Check that it runs and that this account may use it"
        if url.get_backend_name() == "sqlite":
            step = (
                "Name the file that edge-qc record writes, and check that this account may read it"
            )
        raise RecordError(
            f"database {url.render_as_string(hide_password=True)}: {said[:400]}. {step}"
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
            f"database {engine.url.render_as_string(hide_password=True)} contains no records. "
            "Start edge-qc record, or correct --database"
        )
    with engine.begin() as db:
        if create:
            migration.alone(db)
            tables.metadata.create_all(db)
        version = db.execute(sa.select(sa.func.max(tables.records.c.schema_version))).scalar()
        if version is None:
            db.execute(tables.records.insert().values(schema_version=tables.SCHEMA_VERSION))
        elif version > tables.SCHEMA_VERSION:
            raise RecordError(
                f"the records have schema {version}; this edge-qc reads up to "
                f"{tables.SCHEMA_VERSION}. Install the edge-qc that wrote them"
            )
        elif version < tables.SCHEMA_VERSION and not create:
            raise RecordError(
                f"the records have schema {version}; this edge-qc reads {tables.SCHEMA_VERSION}. "
                "Start this version's edge-qc record once to upgrade them"
            )
        elif version < tables.SCHEMA_VERSION:
            migration.upgrade(db, version)
