"""The metrics by name; `workers.metrics` has a function for each, or `generation`, or `costs`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hpo_service import protocol

CLASSIFICATION: tuple[protocol.Task, ...] = ("classification",)
REGRESSION: tuple[protocol.Task, ...] = ("regression",)
GENERATION: tuple[protocol.StudyTask, ...] = ("generation",)
ALL: tuple[protocol.StudyTask, ...] = ("classification", "regression", "generation")

# Of settings as accurate as each other the one with the lower log loss is the better.
TIE_BREAKER = "log_loss"

# `rows`: a mean over rows, so that rows of all folds can be weighed alike. `set`: a number of
# several rows together, not defined or far off on too few. `network`: of a network by itself.
Over = Literal["rows", "set", "network"]


@dataclass(frozen=True)
class Metric:
    """A named measurement; `default`: optimised where a study of its task names none.

    `over`: what it is taken over, which decides how a trial's value comes from its folds; `cost`:
    what a network takes, not how good it is; `least_target`: targets may not be below it.
    """

    name: str
    title: str
    direction: protocol.Direction
    tasks: tuple[protocol.StudyTask, ...]
    over: Over
    default: bool = False
    cost: bool = False
    least_target: float | None = None

    @property
    def pooled(self) -> bool:
        """Whether folds of few rows need their predictions pooled."""
        return self.over == "set"


def _of_classes(name: str, title: str, direction: protocol.Direction, over: Over) -> Metric:
    return Metric(name, title, direction, CLASSIFICATION, over, default=name == "accuracy")


def _of_numbers(name: str, title: str, direction: protocol.Direction, over: Over) -> Metric:
    return Metric(name, title, direction, REGRESSION, over, default=name == "r2")


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _of_classes("accuracy", "Accuracy", "maximize", "rows"),
        _of_classes("balanced_accuracy", "Balanced accuracy", "maximize", "set"),
        _of_classes("f1_macro", "F1, mean over classes", "maximize", "set"),
        _of_classes("f1_weighted", "F1, classes weighted by rows", "maximize", "set"),
        _of_classes("roc_auc", "Area under the ROC curve", "maximize", "set"),
        _of_classes("average_precision", "Average precision", "maximize", "set"),
        _of_classes("mcc", "Matthews correlation", "maximize", "set"),
        _of_classes("log_loss", "Log loss", "minimize", "rows"),
        _of_classes("brier", "Brier score", "minimize", "rows"),
        _of_classes("perplexity", "Perplexity", "minimize", "set"),
        _of_numbers("r2", "R²", "maximize", "set"),
        _of_numbers("rmse", "Root mean squared error", "minimize", "set"),
        _of_numbers("mae", "Mean absolute error", "minimize", "rows"),
        _of_numbers("median_absolute_error", "Median absolute error", "minimize", "set"),
        _of_numbers("mape", "Mean absolute percentage error", "minimize", "rows"),
        Metric(
            "poisson_deviance",
            "Mean Poisson deviance",
            "minimize",
            REGRESSION,
            "rows",
            least_target=0,
        ),
        Metric("mmd", "Kernel distance (MMD²)", "minimize", GENERATION, "network", default=True),
        Metric("two_sample", "Two-sample test", "minimize", GENERATION, "network"),
        Metric("training_time", "Training time (s)", "minimize", ALL, "network", cost=True),
        Metric("parameters", "Trained numbers", "minimize", ALL, "network", cost=True),
        Metric(
            "latency",
            "Latency (s per 1,000 rows)",
            "minimize",
            (*CLASSIFICATION, *REGRESSION),
            "network",
            cost=True,
        ),
    )
}
