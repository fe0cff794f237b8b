"""Pictures of a study, as PNG or SVG: drawn by optuna.visualization, made readable here."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import select

from hpo_service import errors
from hpo_service.plots import pictures
from hpo_service.plots.subject import Subject
from hpo_service.storage import Storage
from hpo_service.tables import Study

Format = Literal["png", "svg"]

PNG_DOTS_PER_INCH = 144

# matplotlib's pyplot keeps its figures and its style in global state.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Plot:
    """How a picture is drawn, and the completed trials that it takes at least."""

    title: str
    trials: int
    draw: Callable[[Subject], Any]


PLOTS: dict[str, Plot] = {
    "optimization_history": Plot("Optimization history", 1, pictures.optimization_history),
    "learning_curves": Plot("Learning curves", 1, pictures.learning_curves),
    "learning_curve": Plot("Learning curve", 2, pictures.learning_curve),
    "param_importances": Plot("Parameter importances", 4, pictures.param_importances),
    "parallel_coordinate": Plot("Parallel coordinates", 2, pictures.parallel_coordinate),
    "slice": Plot("Slices", 2, pictures.slices),
}


def draw(storage: Storage, study_name: str, plot: str, format: Format) -> bytes:
    """The picture as a file; of several values it shows the first, where it shows one only.

    Raises `NotFound` for an unknown study or plot, and `WrongState` where the study has not enough
    completed trials for it yet.
    """
    if plot not in PLOTS:
        raise errors.NotFound(f"There is no plot {plot!r}: choose one of {', '.join(PLOTS)}.")
    subject = _subject(storage, study_name, PLOTS[plot])
    with _one_at_a_time:
        return _drawn(PLOTS[plot], subject, format)


def importances(storage: Storage, study_name: str) -> dict[str, float]:
    """How much each parameter tells about a trial being among the best; sums to 1.

    Most important first, by PED-ANOVA (Watanabe et al. 2023); among several values the best are
    those nearest to the Pareto front. Raises `NotFound` and `WrongState` like `draw`.
    """
    return _subject(storage, study_name, PLOTS["param_importances"]).importances()


def _subject(storage: Storage, study_name: str, plot: Plot) -> Subject:
    with storage.database.read() as session:
        row = session.scalar(select(Study).where(Study.name == study_name))
    if row is None:
        raise errors.NotFound(f"There is no study {study_name!r}.")
    subject = Subject(storage, row)
    there = len(subject.trials)
    if there < plot.trials:
        raise errors.WrongState(
            f"{plot.title}: at least {plot.trials} completed trials with a finite value are "
            f"needed, and there are {there} so far."
        )
    return subject


def _drawn(plot: Plot, subject: Subject, format: Format) -> bytes:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    # A parameter with one value has an axis of no length, which matplotlib mends, and says so.
    warnings.filterwarnings("ignore", "Attempting to set identical", UserWarning)
    # Optuna's pictures change the global style: the context puts it back.
    with mpl.rc_context(pictures.STYLE):
        try:
            figure = plot.draw(subject)
            pictures.finish(figure, f"{plot.title} of {subject.study.study_name}")
            buffer = io.BytesIO()
            figure.savefig(
                buffer,
                format=format,
                dpi=PNG_DOTS_PER_INCH,
                bbox_inches="tight",
                pad_inches=0.15,
                # Equal pictures, equal bytes.
                metadata={"Date": None} if format == "svg" else None,
            )
            return buffer.getvalue()
        finally:
            plt.close("all")
