"""`hpo dataset ...` and `hpo db ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpo_service.cli import results
from hpo_service.cli.frame import DEFAULT_URL, Group, Token, Url, connect, console
from hpo_service.protocol import Task

datasets = typer.Typer(cls=Group, help="List the data sets there are, add your own.")
databases = typer.Typer(cls=Group, help="Look after the database.")


@datasets.command("list", epilog="Example: hpo dataset list")
def list_datasets(url: Url = DEFAULT_URL, token: Token = "") -> None:
    """List all data sets, built-in and uploaded."""
    with connect(url, token) as client:
        console().print(results.datasets_table(client.datasets().datasets))


@datasets.command(epilog="Example: hpo dataset add houses.csv --target price")
def add(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="CSV in UTF-8 with a header line.")
    ],
    target: Annotated[str, typer.Option(help="The column to predict.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the data set.", show_default="the file's")
    ] = None,
    task: Annotated[
        Task | None, typer.Option(help="Unset: told from the target's values.", show_default=False)
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Upload a CSV file as a data set.

    Columns of text become categories; empty cells are missing values.
    """
    with connect(url, token) as client:
        dataset = client.add_dataset(name or file.stem, target, file.read_bytes(), task)
    out = console()
    for warning in dataset.warnings:
        out.print(f"Note: {warning}", markup=False)
    out.print(f"Added data set {dataset.name}.", markup=False)
    out.print(results.datasets_table([dataset]))


@databases.command(epilog="Example: hpo db upgrade --database-url postgresql://hpo@localhost/hpo")
def upgrade(
    database_url: Annotated[
        str | None,
        typer.Option(
            envvar="HPO_DATABASE_URL",
            help="The database.",
            show_default="the embedded file in HPO_DATA_DIR",
        ),
    ] = None,
) -> None:
    """Bring the database's tables to the state this version needs.

    Run it once before a new version of the server starts on PostgreSQL. An embedded SQLite file is
    upgraded by the server itself.
    """
    # Loaded here: the other commands need no SQLAlchemy.
    from hpo_service import schema
    from hpo_service.cli.server import settings
    from hpo_service.database import Database

    database = Database(settings(database_url=database_url).url)
    try:
        schema.upgrade(database)
    finally:
        database.close()
    console().print("The database is current.")
