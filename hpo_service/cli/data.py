"""`hpo dataset ...` and `hpo db ...`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from hpo_service import protocol
from hpo_service.cli import options, results
from hpo_service.cli.frame import DEFAULT_URL, Group, Token, Url, connect, console

datasets = typer.Typer(cls=Group, help="List the data sets there are, add your own.")
databases = typer.Typer(cls=Group, help="Look after the database.")


@datasets.command("list", epilog="Example: hpo dataset list")
def list_datasets(url: Url = DEFAULT_URL, token: Token = "") -> None:
    """List all data sets, built-in and uploaded."""
    with connect(url, token) as client:
        console().print(results.datasets_table(client.datasets().datasets))


@datasets.command(epilog="Example: hpo dataset add houses.csv --target price")
def add(
    file: options.File,
    target: options.Target = None,
    name: options.DatasetName = None,
    task: options.OfTask = None,
    numeric: options.Numeric = [],  # noqa: B006 - typer reads it and no more
    categorical: options.Categorical = [],  # noqa: B006
    drop: options.Drop = [],  # noqa: B006
    weight: options.Weight = None,
    group: options.OfGroup = None,
    order_by: options.OrderBy = None,
    test: options.Test = None,
    text: options.Text = None,
    characters: options.Characters = False,
    id_: options.Id = None,
    time: options.Time = None,
    forecast: options.Forecast = None,
    kind: options.Kind = None,
    size: options.ImageSize = None,
    grey: options.Grey = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Upload a file, or a folder with a folder of images for each class, as a data set.

    Columns of text become categories; empty cells are missing values. Options with a COLUMN that
    take several may be repeated.
    """
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
    data = packed(file, size, grey) if file.is_dir() else file.read_bytes()
    with connect(url, token) as client:
        show_added(client.add_dataset(upload, data))


def packed(folder: Path, size: str | None, grey: bool) -> bytes:
    """The images of a folder as one file; says what they are."""
    # Loaded here: the other commands need no Pillow.
    from hpo_service.datasets.folder import check_classes, pack

    found = pack(folder, height_width(size), 1 if grey else None)
    check_classes(folder, found.classes)
    console().print(found.note, markup=False)
    return found.data


def show_added(dataset: protocol.Dataset) -> None:
    """What looks odd about a data set, and what it is."""
    out = console()
    for warning in dataset.warnings:
        out.print(f"Note: {warning}", markup=False)
    out.print(f"Added data set {dataset.name}.", markup=False)
    out.print(results.datasets_table([dataset]))


def height_width(given: str | None) -> tuple[int, int] | None:
    """Of HxW."""
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
