"""The tree of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from hpo_service import __version__
from hpo_service.cli import data, demo, export, nested, predict, replay, server, studies, up
from hpo_service.cli.frame import Root

RUN = "Run"
USE = "Use"

app = typer.Typer(
    cls=Root,
    help="Find the best neural network for your data, with a score you can trust.",
    epilog="Start with: hpo demo",
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"hpo {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


app.command(epilog="Example: hpo demo --no-wait", rich_help_panel=RUN)(demo.demo)
app.command(epilog="Example: hpo up --workers 4", rich_help_panel=RUN)(up.up)
app.command(epilog="Example: hpo serve --port 8080", rich_help_panel=RUN)(server.serve)
app.command(epilog="Example: hpo worker --device cuda:0", rich_help_panel=RUN)(server.worker)
studies.studies.command(epilog="Example: hpo study replay my-digits")(replay.replay)
app.add_typer(studies.studies, name="study", rich_help_panel=USE)
app.add_typer(nested.nested, name="nested", rich_help_panel=USE)
app.add_typer(studies.trials, name="trial", rich_help_panel=USE)
app.command(epilog="Example: hpo predict houses new-houses.csv", rich_help_panel=USE)(
    predict.predict
)
app.command(epilog="Example: hpo export houses houses.onnx", rich_help_panel=USE)(export.export)
app.add_typer(data.datasets, name="dataset", rich_help_panel=USE)
app.add_typer(data.databases, name="db", rich_help_panel=USE)
