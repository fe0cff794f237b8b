"""Fixtures that all tests share: a migrated database of each kind, a clock that stands still.

`database_url` runs a test twice, on SQLite and on PostgreSQL; a test that needs one kind only asks
for `sqlite_url` or `postgres_url`. Each test gets a fresh copy of a database that was migrated
once.
"""

from __future__ import annotations

import os

# Set before numpy or torch is imported: more threads than cores make small matrices slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import make_url

from hpo_service import schema
from hpo_service.database import Database
from tests import postgres

START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """A clock that moves only when told to."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move on by `seconds`, or back where they are negative."""
        self.now += timedelta(seconds=seconds)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The `HPO_*` variables of whoever runs the tests are not those of the tests, nor is what
    their machine was measured to do.
    """
    for name in os.environ:
        if name.startswith("HPO_") and not name.startswith("HPO_TEST_"):
            monkeypatch.delenv(name)
    base = tmp_path_factory.getbasetemp()
    # The processes of one run measure once for all of them.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    monkeypatch.setenv("HPO_CACHE_DIR", str(shared / "cache"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A URL of a user that may create databases."""
    with ExitStack() as stack:
        try:
            url = stack.enter_context(postgres.server())
        except postgres.NoPostgres as reason:
            if postgres.in_ci():
                pytest.fail(str(reason))
            pytest.skip(str(reason))
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    """The name of a migrated, empty database, copied for each test."""
    name = f"hpo_test_{uuid.uuid4().hex[:12]}"
    postgres.run(postgres_server, f"CREATE DATABASE {name}")
    try:
        migrate(in_database(postgres_server, name))
        yield name
    finally:
        postgres.run(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty file, copied for each test."""
    path = tmp_path_factory.mktemp("template") / "hpo.db"
    migrate(f"sqlite:///{path}")
    return path


@contextmanager
def fresh(request: pytest.FixtureRequest, kind: str, folder: Path) -> Iterator[str]:
    """The URL of a migrated, empty database of this kind, in `folder` or gone afterwards."""
    if kind == "sqlite":
        template = request.getfixturevalue("sqlite_template")
        yield f"sqlite:///{shutil.copy(template, folder / 'hpo.db')}"
        return
    server, template = map(request.getfixturevalue, ("postgres_server", "postgres_template"))
    name = f"{template}_{uuid.uuid4().hex[:8]}"
    postgres.run(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield in_database(server, name)
    postgres.run(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated SQLite file of this test alone."""
    with fresh(request, "sqlite", tmp_path) as url:
        yield url


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated PostgreSQL database of this test alone."""
    with fresh(request, "postgresql", tmp_path) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated database of each kind in turn."""
    with fresh(request, request.param, tmp_path) as url:
        yield url


@pytest.fixture
def database(database_url: str, clock: Clock) -> Iterator[Database]:
    """The tables, empty, under a clock that moves only when told to."""
    opened = Database(database_url, clock=clock)
    yield opened
    opened.close()


def migrate(url: str) -> None:
    database = Database(url)
    schema.upgrade(database)
    database.close()


def in_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)
