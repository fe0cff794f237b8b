"""`hpo nested ...`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from hpo_service import nested as nesting
from hpo_service import protocol
from hpo_service.cli import live, results, studies
from hpo_service.cli.frame import DEFAULT_URL, Group, Token, Url, connect, console
from hpo_service.client import Client

nested = typer.Typer(cls=Group, help="Nested cross-validation: what a whole search is worth.")


@nested.command(epilog="Example: hpo nested create study.json --outer-folds 5 --watch")
def create(
    file: Annotated[
        typer.FileText,
        typer.Argument(metavar="FILE", help="The study as JSON, - for standard input."),
    ],
    folds: Annotated[
        int, typer.Option("--outer-folds", min=3, max=20, help="Studies to create.")
    ] = nesting.FOLDS,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow them until they end, and show the result.")
    ] = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Create a study for each outer fold: it searches on the others, and is scored on its own."""
    spec = studies.checked(protocol.StudySpec, studies.read_spec(file))
    with connect(url, token) as client:
        names = [study.name for study in nesting.create(client, spec, folds)]
        console().print(f"Created {len(names)} studies: {', '.join(names)}.", markup=False)
        if watch:
            live.watch(client, names, console())
            print_estimates(console(), client, spec.name)


@nested.command(epilog="Example: hpo nested show my-digits")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the file called it.")],
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Show the mean of the held-out scores over the outer folds, once all have finished."""
    with connect(url, token) as client:
        print_estimates(console(), client, name)


def print_estimates(out: Console, client: Client, name: str) -> None:
    """A row for the winners and each baseline by each metric."""
    table = results.plain_table("", "metric", "mean", f"{nesting.LEVEL:.0%} interval", "folds")
    for each in nesting.estimates(client, name):
        of_folds = " ".join(f"{value:.4f}" for value in each.folds)
        interval = f"{each.low:.4f} to {each.high:.4f}"
        who = escape(results.words(each.name))
        table.add_row(who, each.metric, f"{each.value:.4f}", interval, of_folds)
    out.print(table)
