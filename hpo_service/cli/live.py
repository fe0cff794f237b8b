"""The live view of running studies: a bar each on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from hpo_service import errors, protocol
from hpo_service.client import Client

REFRESH_SECONDS = 0.5
LINE_SECONDS = 5.0  # between two plain lines about one study
PATIENCE_SECONDS = 30.0  # how long the server may be away


def watch(
    client: Client,
    names: Sequence[str],
    console: Console,
    pause: Callable[[float], object] = time.sleep,
) -> list[protocol.Study]:
    """Show the studies until all have finished, or `pause` answers true; returns them as seen last.

    A server that is away for a moment is waited for.
    """
    answered = time.monotonic()
    studies: list[protocol.Study] = []
    with View(console) as view:
        while True:
            try:
                studies = [client.study(name) for name in names]
                answered = time.monotonic()
            except errors.Unavailable:
                if time.monotonic() - answered > PATIENCE_SECONDS:
                    raise
            for study in studies:
                view.show(study)
            if studies and all(study.state == "finished" for study in studies):
                return studies
            if pause(REFRESH_SECONDS):
                return studies


class View:
    """One bar per study, or now and then a line per study where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("[green]{task.fields[best]}"),
            PaceColumn(),
            TextColumn("[dim]ETA"),
            TimeRemainingColumn(),
            TextColumn("[yellow]{task.fields[state]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.tasks: dict[str, TaskID] = {}
        self.lines: dict[str, tuple[float, object]] = {}

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def show(self, study: protocol.Study) -> None:
        """Bring the bar of a study up to date, or print its line where there is news."""
        done, best, state = ended(study.counts), best_text(study), state_text(study)
        if study.name not in self.tasks:
            self.tasks[study.name] = self.progress.add_task(
                study.name, total=study.budget_trials, completed=done, best=best, state=state
            )
        task = self.tasks[study.name]
        self.progress.update(
            task, total=study.budget_trials, completed=done, best=best, state=state
        )
        if self.progress.disable:
            self._line(study, self.progress.tasks[task])

    def _line(self, study: protocol.Study, task: Task) -> None:
        now, (before, seen) = time.monotonic(), self.lines.get(study.name, (-1e9, None))
        news = (task.completed, study.state)
        if news == seen or (now - before < LINE_SECONDS and study.state != "finished"):
            return
        self.lines[study.name] = (now, news)
        eta = f"ETA {task.time_remaining:.0f} s" if task.time_remaining else ""
        trials = f"{task.completed:.0f}/{study.budget_trials or '?'} trials"
        words = (study.name, trials, task.fields["best"], pace(task), eta, task.fields["state"])
        self.console.print("  ".join(filter(None, words)), markup=False)


class PaceColumn(ProgressColumn):
    """Trials per minute."""

    def render(self, task: Task) -> Text:
        return Text(pace(task), style="cyan")


def pace(task: Task) -> str:
    """Trials per minute over the last half minute; empty while nothing has ended."""
    return f"{task.speed * 60:.0f} trials/min" if task.speed and not task.finished else ""


def ended(counts: protocol.Counts) -> int:
    """How many numbered trials have reached a terminal state."""
    return counts.complete + counts.pruned + counts.fail + counts.cancelled


def best_text(study: protocol.Study) -> str:
    """The best value so far and its trial; the size of the Pareto set where there are several."""
    if not study.best:
        return ""
    if len(study.directions) > 1:
        return f"{len(study.best)} best trials"
    best = study.best[0]
    return f"best {metric_names(study)[0]} {best.values[0]:.4f} (trial {best.number})"


def state_text(study: protocol.Study) -> str:
    """What a study is doing, where it is not simply running."""
    match study.state:
        case "running":
            return ""
        case "finishing":
            return "scoring the winner"
        case "finished":
            return f"finished ({study.ended_by})"
    return study.state


def metric_names(study: protocol.Study) -> list[str]:
    """What each value of a study's trials measures."""
    objective = study.spec.objective if study.spec else None
    if isinstance(objective, protocol.TrainObjective) and objective.metrics:
        return objective.metrics
    if len(study.directions) == 1:
        return ["value"]
    return [f"value {place}" for place in range(1, len(study.directions) + 1)]
