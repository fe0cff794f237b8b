"""Alembic's entry: one tree of migrations for SQLite and PostgreSQL."""

from __future__ import annotations

from typing import Literal

from alembic import context
from sqlalchemy import Connection

from hpo_service.database import Database
from hpo_service.settings import Settings
from hpo_service.tables import Base, JsonText, UtcDateTime


def render_item(kind: str, item: object, _context: object) -> str | Literal[False]:
    """Write our types into migrations as what they are in SQL."""
    if kind == "type" and isinstance(item, JsonText):
        return "sa.Text()"
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        render_as_batch=connection.dialect.name == "sqlite",
        render_item=render_item,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with Database(Settings().url).writer.begin() as opened:
        run(opened)
