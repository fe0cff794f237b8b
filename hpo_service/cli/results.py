"""How studies, trials and final results look on a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hpo_service import protocol
from hpo_service.cli.live import ended, metric_names, state_text

TRIALS_PER_TABLE = 5  # as many as 80 columns hold


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


def remarks(study: protocol.Study) -> Iterator[str]:
    """Which sampler was picked and why, and why the search ended early."""
    for pick in study.sampling:
        since = f" from trial {pick.first} on" if pick.first else ""
        yield f"Sampler{since}: {' and '.join(pick.samplers)}, since {pick.reason}."
    if study.ended_by == "no_gain" and study.gain:
        yield (
            f"The search ended early: ten more trials could be expected to gain "
            f"{study.gain.expected:.2g}, and the best value is uncertain by {study.gain.noise:.2g}."
        )


def datasets_table(datasets: Sequence[protocol.Dataset]) -> Table:
    """One row per data set."""
    table = plain_table("data set", "task", "rows", "a row is", "")
    for dataset in datasets:
        contents = dataset.contents
        shape = (contents.task, str(contents.rows), row_of(contents)) if contents else ("",) * 3
        origin = "built in" if dataset.builtin else "uploaded"
        table.add_row(escape(dataset.name), *shape, origin if contents else "not installed")
    return table


def artifacts_table(artifacts: Sequence[protocol.Artifact]) -> Table:
    """One row per file."""
    table = plain_table("file", "bytes")
    for artifact in artifacts:
        table.add_row(escape(artifact.name), f"{artifact.size:,}")
    return table


def row_of(contents: protocol.DatasetSchema) -> str:
    """What a row of a data set is, in a few words."""
    if not contents.shape:
        columns = len(contents.columns)
        return f"{columns} column{'' if columns == 1 else 's'}"
    return f"{contents.kind} {'x'.join(map(str, contents.shape))}"


def leaderboard(study: protocol.Study, trials: Sequence[protocol.Trial]) -> Iterator[Table]:
    """A column per trial in the order given, a row per value and parameter; some trials a table."""
    for start in range(0, len(trials), TRIALS_PER_TABLE):
        some = trials[start : start + TRIALS_PER_TABLE]
        table = plain_table("trial", *(str(trial.number) for trial in some))
        for place, metric in enumerate(metric_names(study)):
            table.add_row(metric, *(number((trial.values or [])[place]) for trial in some))
        table.add_row("epoch", *(number(trial.epoch) for trial in some), end_section=True)
        for name in dict.fromkeys(name for trial in some for name in trial.params):
            table.add_row(name, *(number(trial.params.get(name)) for trial in some))
        yield table


def learning_curve_table(curve: protocol.LearningCurve) -> Table:
    """A row per share: the rows trained on, and both scores with their spread over folds."""
    name = escape(curve.metric)
    table = plain_table("share", "rows trained on", f"{name}, those rows", f"{name}, not shown")
    for point in curve.points:
        rows = "-" if point.rows is None else f"{point.rows:,.0f}"
        trained = with_spread(point.train, point.train_folds)
        table.add_row(f"{point.share:g}", rows, trained, with_spread(point.value, point.folds))
    return table


def with_spread(mean: float | None, folds: Sequence[float | None]) -> str:
    """A mean, and the standard deviation over its folds."""
    known = [value for value in folds if value is not None]
    spread = f" ± {statistics.stdev(known):.4f}" if len(known) > 1 else ""
    return "-" if mean is None else f"{mean:.4f}{spread}"


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
    console.print(*(score_table(final, place) for place in range(len(final.metrics))))
    for note in final.notes:
        console.print(f"[dim]- {escape(note)}[/]")


def print_diagnosis(console: Console, found: protocol.Diagnoses) -> None:
    """What ails the winner, and what to try next."""
    if found.study is None:
        return
    kind = found.study.kind.replace("_", " ")
    console.print(f"[bold]Diagnosis[/]: {kind}. {escape(found.study.reason)}")
    console.print(f"[dim]Next: {escape('; '.join(found.study.next))}.[/]")


def score_table(final: protocol.Final, place: int) -> Table:
    """Winner, default and baselines by the metric at `place`: on the folds of the search, on fresh
    ones, and on held-out rows where there are any.
    """
    metric = final.metrics[place]
    levels = [each.level for _, scored in shown(final) for each in scored.held_out]
    columns = ["held out", f"{levels[0]:.0%} interval"] if levels else []
    table = plain_table(metric, "search folds", "fresh folds", *columns)
    for title, scored in shown(final):
        row = [mean(scored, place), mean(scored.fresh, place), *held_out(scored, metric)]
        table.add_row(escape(title), *row[: 2 + len(columns)])
    return table


def shown(final: protocol.Final) -> Iterator[tuple[str, protocol.Scored]]:
    """What a result is told by: the winner, what is served and the default where these are others,
    the baselines.
    """
    if final.winner is not None:
        default = ", default" if final.winner.default else ""
        yield f"{words(final.winner.model)} (winner{default})", final.winner
        if final.served is not None and final.served.kind != "single":
            yield f"{words(final.winner.model)} ({of_served(final)})", together(final, final.winner)
    for scored in final.confirmed:
        if scored.default and scored != final.winner:
            yield f"{words(scored.model)} (default)", scored
    for scored in final.baselines:
        yield words(scored.model), scored


def of_served(final: protocol.Final) -> str:
    """What is served in the winner's stead, in a few words."""
    if final.served is None or final.served.kind == "folds" or final.ensemble is None:
        return "its folds together, served"
    return f"{len(final.ensemble.weights)} trials together, served"


def together(final: protocol.Final, winner: protocol.Scored) -> protocol.Scored:
    """The scores of what is served in the winner's stead; on the folds of the search those of an
    ensemble by one metric.
    """
    found = final.ensemble if final.ensemble is not None and final.ensemble.served else None
    return protocol.Scored(
        name="served",
        model=winner.model,
        params={},
        number=None,
        epoch=None,
        values=[found.score] if found else None,
        folds=[],
        spread=[],
        held_out=final.served.held_out if final.served else [],
    )


def words(model: str) -> str:
    """A family's name that a narrow table can break into lines."""
    return model.replace("_", " ")


def mean(scored: protocol.Scored | protocol.Fresh | None, place: int) -> str:
    """Mean and standard deviation over the folds."""
    if scored is None or scored.values is None:
        return "-"
    spread = f" ± {scored.spread[place]:.4f}" if place < len(scored.spread) else ""
    return f"{scored.values[place]:.4f}{spread}"


def held_out(scored: protocol.Scored, metric: str) -> tuple[str, str]:
    """Value and interval of the score on rows that were never searched on."""
    for estimate in scored.held_out:
        if estimate.metric == metric:
            interval = "unknown"
            if estimate.low is not None and estimate.high is not None:
                interval = f"{estimate.low:.4f} to {estimate.high:.4f}"
            return f"{estimate.value:.4f}", interval
    return "-", "-"


def number(value: protocol.FixedValue) -> str:
    """A parameter or value as a person reads it; `-` where there is none."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def plain_table(*columns: str) -> Table:
    """A table without a frame, whose figures can be copied."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
