"""How studies, trials and final results look on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hpo_service import protocol
from hpo_service.cli.live import ended, metric_names, state_text


def studies_table(studies: Sequence[protocol.Study]) -> Table:
    """One row per study."""
    table = plain_table("study", "state", "trials", "best", "created")
    for study in studies:
        budget = study.budget_trials or "-"
        best = f"{study.best[0].values[0]:.4f}" if study.best else "-"
        created = study.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
        state = state_text(study) or study.state
        table.add_row(escape(study.name), state, f"{ended(study.counts)}/{budget}", best, created)
    return table


def datasets_table(datasets: Sequence[protocol.Dataset]) -> Table:
    """One row per data set."""
    table = plain_table("data set", "task", "rows", "columns", "")
    for dataset in datasets:
        contents = dataset.contents
        shape = (
            (contents.task, str(contents.rows), str(len(contents.columns)))
            if contents
            else ("",) * 3
        )
        kind = "built in" if dataset.builtin else "uploaded"
        table.add_row(escape(dataset.name), *shape, kind)
    return table


def leaderboard(study: protocol.Study, trials: Sequence[protocol.Trial]) -> Table:
    """The trials given, in their order, with all their parameters."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    table = plain_table("trial", *metric_names(study), "epoch", *names)
    for trial in trials:
        values = [number(value) for value in trial.values or ()]
        epoch = "" if trial.epoch is None else str(trial.epoch)
        params = [number(trial.params.get(name, "")) for name in names]
        table.add_row(str(trial.number), *values, epoch, *params)
    return table


def print_final(console: Console, final: protocol.Final) -> None:
    """The winner, its scores beside those of the baselines, and what to keep in mind."""
    if final.winner is None:
        reason = f": {final.error.message}" if final.error else ""
        console.print(f"No final result ({final.state}){escape(reason)}")
        return
    console.print(f"[bold]Best hyperparameters[/] (trial {final.winner.number})")
    for name, value in final.winner.params.items():
        console.print(f"  {escape(name)} = [green]{escape(number(value))}[/]")
    console.print()
    console.print(score_table(final))
    for note in final.notes:
        console.print(f"[dim]- {escape(note)}[/]")


def score_table(final: protocol.Final) -> Table:
    """A row for the winner and each baseline, per metric: cross-validated and held-out."""
    table = plain_table("model", "metric", "cross-validated", "held out", "interval", "rows")
    assert final.winner is not None
    for scored in (final.winner, *final.baselines):
        title = f"{scored.model} (winner)" if scored is final.winner else scored.model
        for place, metric in enumerate(final.metrics):
            table.add_row(
                escape(title), metric, validated(scored, place), *held_out(scored, metric)
            )
    return table


def validated(scored: protocol.Scored, place: int) -> str:
    """Mean and standard deviation over the folds."""
    if scored.values is None:
        return "-"
    spread = f" ± {scored.spread[place]:.4f}" if place < len(scored.spread) else ""
    return f"{scored.values[place]:.4f}{spread}"


def held_out(scored: protocol.Scored, metric: str) -> tuple[str, str, str]:
    """Value, interval and number of rows of the score on rows never searched on."""
    for estimate in scored.held_out:
        if estimate.metric == metric:
            interval = f"{estimate.level:.0%} unknown"
            if estimate.low is not None and estimate.high is not None:
                interval = f"{estimate.level:.0%} [{estimate.low:.4f}, {estimate.high:.4f}]"
            return f"{estimate.value:.4f}", escape(interval), str(estimate.rows)
    return "-", "-", "-"


def number(value: protocol.FixedValue) -> str:
    """A parameter or value as a person reads it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def plain_table(*columns: str) -> Table:
    """A table without a frame, whose figures can be copied."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
