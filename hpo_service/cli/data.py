"""`hpo dataset ...` and `hpo db ...`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from hpo_service import protocol
from hpo_service.cli import results
from hpo_service.cli.frame import DEFAULT_URL, Group, Token, Url, connect, console
from hpo_service.protocol import Task

COLUMN = "COLUMN"
MORE = "Texts, series, images"

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
        Path, typer.Argument(exists=True, help="CSV, Parquet or NPZ; or a folder of images.")
    ],
    target: Annotated[
        str | None,
        typer.Option(help="The column to predict.", show_default="y in an NPZ, the folders"),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the data set.", show_default="the file's")
    ] = None,
    task: Annotated[
        Task | None, typer.Option(help="Unset: told from the target's values.", show_default=False)
    ] = None,
    numeric: Annotated[
        list[str], typer.Option(metavar=COLUMN, help="Numbers; other values are missing.")
    ] = [],  # noqa: B006 - typer reads it and no more
    categorical: Annotated[
        list[str], typer.Option(metavar=COLUMN, help="Categories, even where all are numbers.")
    ] = [],  # noqa: B006
    drop: Annotated[list[str], typer.Option(metavar=COLUMN, help="Left out.")] = [],  # noqa: B006
    weight: Annotated[str | None, typer.Option(metavar=COLUMN, help="What a row counts.")] = None,
    group: Annotated[
        str | None, typer.Option(metavar=COLUMN, help="Rows alike in it stay together.")
    ] = None,
    order_by: Annotated[
        str | None, typer.Option(metavar=COLUMN, help="The order of time: numbers or dates.")
    ] = None,
    test: Annotated[
        str | None, typer.Option(metavar=COLUMN, help="1, true or test: held out from the search.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(metavar=COLUMN, help="A text in each row.", rich_help_panel=MORE)
    ] = None,
    characters: Annotated[
        bool, typer.Option("--characters", help="Of a text, not words.", rich_help_panel=MORE)
    ] = False,
    id_: Annotated[
        str | None,
        typer.Option(
            "--id", metavar=COLUMN, help="Which series a line is of.", rich_help_panel=MORE
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(metavar=COLUMN, help="The order of its lines.", rich_help_panel=MORE),
    ] = None,
    forecast: Annotated[
        int | None,
        typer.Option(
            metavar="ROWS", help="The target's next value, from so many rows.", rich_help_panel=MORE
        ),
    ] = None,
    kind: Annotated[
        Literal["table", "sequence", "image"] | None,
        typer.Option(help="What a row of an NPZ is.", show_default=False, rich_help_panel=MORE),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="Of images in a folder: 32x32.", rich_help_panel=MORE),
    ] = None,
    grey: Annotated[
        bool, typer.Option("--grey", help="Images in a folder, no colours.", rich_help_panel=MORE)
    ] = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Upload a file, or a folder with a folder of images for each class, as a data set.

    Columns of text become categories; empty cells are missing values. Options with a COLUMN that
    take several may be repeated.
    """
    out = console()
    upload = protocol.Upload(
        name=name or file.resolve().stem,
        target=target,
        task=task,
        kind=kind,
        text=text,
        symbols="characters" if characters else "words",
        id=id_,
        time=time,
        forecast=forecast,
        weight=weight,
        group=group,
        order_by=order_by,
        test=test,
        numeric=numeric,
        categorical=categorical,
        drop=drop,
    )
    if file.is_dir():
        # Loaded here: the other commands need no Pillow.
        from hpo_service.datasets import folder

        packed = folder.pack(file, _size(size), 1 if grey else None)
        out.print(packed.note, markup=False)
        data = packed.data
    else:
        data = file.read_bytes()
    with connect(url, token) as client:
        dataset = client.add_dataset(upload, data)
    for warning in dataset.warnings:
        out.print(f"Note: {warning}", markup=False)
    out.print(f"Added data set {dataset.name}.", markup=False)
    out.print(results.datasets_table([dataset]))


def _size(given: str | None) -> tuple[int, int] | None:
    """(height, width) of HxW."""
    if given is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", given)
    if found is None:
        raise typer.BadParameter(f"{given!r} is no HEIGHTxWIDTH such as 32x32", param_hint="--size")
    return int(found[1]), int(found[2])


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
