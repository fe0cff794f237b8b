"""One tree of migrations makes, on both databases, just the tables the code was written for."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from hpo_service import errors, schema
from hpo_service.database import Database, lock_file
from hpo_service.tables import Base


def test_migrations_equal_the_tables(database: Database) -> None:
    with database.writer.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_an_upgrade_can_be_repeated(database: Database) -> None:
    schema.upgrade(database)
    assert schema.is_current(database)


def test_a_server_refuses_a_postgresql_that_is_behind(postgres_url: str) -> None:
    database = Database(postgres_url)
    with database.writer.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(errors.WrongState, match="hpo db upgrade"):
        schema.require_current(database)
    database.close()


def test_a_second_server_on_one_sqlite_file_is_refused(sqlite_url: str) -> None:
    path = Database(sqlite_url).url.database
    with lock_file(path), pytest.raises(errors.WrongState, match="Another server"):  # type: ignore[arg-type]
        lock_file(path)  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "sqlite:///:memory:", "nonsense"])
def test_a_database_we_cannot_use_is_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="HPO_DATABASE_URL"):
        Database(url)
