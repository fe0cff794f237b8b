"""`hpo study replay`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from hpo_service import protocol
from hpo_service.cli.frame import DEFAULT_URL, Token, Url, connect, console
from hpo_service.cli.results import number, plain_table
from hpo_service.cli.studies import Study
from hpo_service.client import Client

SHOWN = 10


def replay(
    study: Study,
    first: Annotated[int, typer.Option(min=0, metavar="N", help="Trial to begin with.")] = 0,
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Propose all trials again, from what each proposal knew, and compare; exit 1 if some differ.

    Takes as long as the sampler took. Another version of a library may round otherwise.
    """
    counts: Counter[str] = Counter()
    others: list[protocol.Replayed] = []
    out = console()
    with connect(url, token) as client:
        for trial in all_replayed(client, study, first):
            counts[trial.outcome] += 1
            others += [trial] if trial.outcome == "other" else []
    if others:
        out.print(differences(others[:SHOWN]))
    out.print(", ".join(summary(counts)) + ".", markup=False)
    if others:
        raise typer.Exit(1)


def all_replayed(client: Client, study: str, first: int) -> Iterator[protocol.Replayed]:
    """All pages, each made anew by the server."""
    after: int | None = first
    while after is not None:
        page = client.replay(study, after)
        yield from page.trials
        after = page.next


def summary(counts: Counter[str]) -> Iterator[str]:
    """How many of each outcome, in words."""
    made = counts["same"] + counts["other"]
    yield f"{counts['same']} of {made} proposals are the same"
    if counts["given"]:
        yield f"{counts['given']} given by hand"
    if counts["unknown"]:
        yield f"{counts['unknown']} without a note of what they depended on"


def differences(others: Sequence[protocol.Replayed]) -> Table:
    """A row for each parameter that is not the same."""
    table = plain_table("trial", "parameter", "stored", "replayed")
    for trial in others:
        replayed = trial.replayed or {}
        for name in sorted({*trial.params, *replayed}):
            one, other = trial.params.get(name), replayed.get(name)
            if one != other:
                table.add_row(
                    str(trial.number), escape(name), *map(escape, (number(one), number(other)))
                )
    return table
