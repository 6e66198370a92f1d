"""Empty databases of both kinds that records may be in; one PostgreSQL for each worker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.rig import databases
from tests.rig.programs import need


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL that is there for this run, or worker, of the tests."""
    need("initdb")
    if os.geteuid() == 0:
        need("setpriv")
    with databases.running_postgres({"fsync": "off"}) as url:
        yield url


KINDS = [
    "sqlite",
    pytest.param("postgres", marks=pytest.mark.postgres),
]


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind, as --database names it."""
    return empty(request, tmp_path)


@pytest.fixture(params=KINDS, scope="module")
def shared_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """As ``database``, for a module whose tests only read it."""
    return empty(request, tmp_path_factory.mktemp("records"))


def empty(request: pytest.FixtureRequest, folder: Path) -> str:
    if request.param == "sqlite":
        return str(folder / "records.sqlite")
    return fresh(request.getfixturevalue("postgres"))


def fresh(url: str) -> str:
    """A new database in a PostgreSQL."""
    name = f"t{datetime.now().timestamp():.6f}".replace(".", "_")
    import sqlalchemy as sa

    engine = sa.create_engine(
        url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as db:
        db.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{url.rpartition('/')[0]}/{name}"
