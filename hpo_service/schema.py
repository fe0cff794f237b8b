"""The database's schema: where it stands, and how it gets to where the code is."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from hpo_service import errors
from hpo_service.database import Database, translated

# Beside the package in a checkout, inside it in an installed wheel.
PLACES = (
    Path(__file__).parent / "migrations",
    Path(__file__).parent.parent / "migrations",
)
MIGRATION_LOCK = 0x48504F  # "HPO", the key of the advisory lock


def config(connection: Connection | None = None) -> Config:
    """Alembic's configuration for our tree of migrations."""
    made = Config()
    made.set_main_option("script_location", str(next(p for p in PLACES if p.is_dir())))
    made.attributes["connection"] = connection
    return made


def upgrade(database: Database) -> None:
    """Bring the schema to the newest revision; of several callers one does, the others wait."""
    with translated(), database.writer.begin() as connection:
        if not database.sqlite:
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        command.upgrade(config(connection), "head")


def is_current(database: Database) -> bool:
    """Whether the schema is the one this code was written for."""
    head = ScriptDirectory.from_config(config()).get_current_head()
    with translated(), database.reader.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() == head


def require_current(database: Database) -> None:
    """Upgrade an embedded file; refuse a server whose schema is behind, naming the command."""
    if database.sqlite:
        upgrade(database)
    elif not is_current(database):
        raise errors.WrongState(
            "The database schema is not current: run `hpo db upgrade`, then start again."
        )
