"""`hpo demo`: a server, two workers and a study on real data, from nothing to the final score."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from hpo_service import errors, protocol
from hpo_service.cli import live, results, server, studies
from hpo_service.cli.frame import console
from hpo_service.cli.processes import Stop, stop_signals
from hpo_service.cli.up import CHECK_SECONDS, Team
from hpo_service.client import Client
from hpo_service.settings import Settings

WORKERS = 2

# Digits: 1797 images of 8 x 8 pixels. SGD with momentum gets there within 30 epochs, and a wide
# range of learning rates and momenta leaves something to be found.
STUDY: dict[str, Any] = {
    "name": "digits-mlp",
    "objective": {
        "kind": "train",
        "model": "mlp",
        "dataset": "digits",
        "metrics": ["accuracy"],
        "record": ["log_loss"],
        "params": {"epochs": 30, "optimizer": "sgd", "batch_size": 64},
        "validation": {"method": "k_fold", "folds": 5, "stratify": True},
        "holdout": 0.2,
        "baselines": True,
    },
    "search_space": {
        "hidden_layers": {"type": "int", "low": 1, "high": 3},
        "hidden_units": {"type": "int", "low": 32, "high": 256, "log": True},
        "activation": {"type": "categorical", "choices": ["relu", "tanh", "swish"]},
        "dropout": {"type": "float", "low": 0.0, "high": 0.5},
        "learning_rate": {"type": "float", "low": 0.001, "high": 0.5, "log": True},
        "momentum": {"type": "float", "low": 0.0, "high": 0.95},
    },
    "pruner": {"name": "none"},
    "budget": {"trials": 30},
    "seed": 0,
}


def demo(
    trials: Annotated[int, typer.Option(min=1, metavar="N", help="Trials of the search.")] = 30,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Keep the server up at the end.")
    ] = True,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder to keep everything in.", show_default="a temporary one"),
    ] = None,
) -> None:
    """Tune a neural network on the digits data, with two workers and a server of its own.

    Bayesian search under stratified 5-fold cross-validation; the winner is scored once on a fifth
    of the data that the search never saw. Ctrl-C ends everything.
    """
    out = console()
    spec = studies.checked(protocol.StudySpec, {**STUDY, "budget": {"trials": trials}})
    with stop_signals() as stop, folder(data_dir) as place:
        settings = Settings(data_dir=place, database_url=None, host="127.0.0.1", port=0, token=None)
        worker = server.command("workers", "--cache-dir", str(place / "cache"), device="cpu")
        with Team(settings, worker, WORKERS, stop, out.print, logs=place) as team:
            show(team, spec, out, stop)
            if wait and out.is_terminal and not stop:
                out.print("The server stays up until you press Ctrl-C.")
                while not stop.wait(CHECK_SECONDS):
                    team.check()
                raise typer.Exit
    if stop:
        raise typer.Exit(stop.exit_code)


def show(team: Team, spec: protocol.StudySpec, out: Console, stop: Stop) -> None:
    """The whole way: start, search, result. Returns early where asked to stop."""
    started = time.monotonic()
    out.print(f"Starting a server on {team.url} and {WORKERS} workers ...")
    team.start()

    def pause(seconds: float) -> bool:
        team.check()
        return stop.wait(seconds)

    with team.client() as client:
        if stop:
            return
        client.create_study(spec)
        live.watch(client, [spec.name], out, pause)
        if not stop:
            report(client, client.study(spec.name), out, time.monotonic() - started)
            out.print(f"\nStudy     {team.url}/v1/studies/{spec.name}")
            out.print(f"API docs  {team.url}/docs")


def report(client: Client, study: protocol.Study, out: Console, seconds: float) -> None:
    """Leaderboard, winner and scores."""
    counts = ", ".join(f"{count} {state}" for state, count in study.counts if count)
    out.print(f"\n{live.ended(study.counts)} trials in {seconds:.0f} s: {counts}.\n")
    best = studies.best_trials(client, study, studies.LEADERS)
    if best:
        out.print(f"[bold]Leaderboard[/] (top {len(best)})")
        out.print(*results.leaderboard(study, best))
    final = client.final(study.id)
    results.print_final(out, final)
    if final.state != "complete":
        raise errors.HpoError("The demo has no final result.")


@contextmanager
def folder(kept: Path | None) -> Iterator[Path]:
    """The folder given, made where it is missing, or one that is gone afterwards."""
    if kept:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="hpo-demo-") as temporary:
        yield Path(temporary)
