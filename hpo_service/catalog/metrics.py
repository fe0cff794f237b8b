"""The metrics by name; `workers.metrics` has a function for each, or `workers.generation`."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service import protocol

CLASSIFICATION: tuple[protocol.Task, ...] = ("classification",)
REGRESSION: tuple[protocol.Task, ...] = ("regression",)
GENERATION: tuple[protocol.StudyTask, ...] = ("generation",)


@dataclass(frozen=True)
class Metric:
    """A named measurement; `default`: optimised where a study of its task names none."""

    name: str
    title: str
    direction: protocol.Direction
    tasks: tuple[protocol.StudyTask, ...]
    default: bool = False


METRICS: dict[str, Metric] = {
    "accuracy": Metric("accuracy", "Accuracy", "maximize", CLASSIFICATION, default=True),
    "balanced_accuracy": Metric(
        "balanced_accuracy", "Balanced accuracy", "maximize", CLASSIFICATION
    ),
    "f1_macro": Metric("f1_macro", "F1, mean over classes", "maximize", CLASSIFICATION),
    "log_loss": Metric("log_loss", "Log loss", "minimize", CLASSIFICATION),
    "perplexity": Metric("perplexity", "Perplexity", "minimize", CLASSIFICATION),
    "r2": Metric("r2", "R²", "maximize", REGRESSION, default=True),
    "rmse": Metric("rmse", "Root mean squared error", "minimize", REGRESSION),
    "mae": Metric("mae", "Mean absolute error", "minimize", REGRESSION),
    "mmd": Metric("mmd", "Kernel distance (MMD²)", "minimize", GENERATION, default=True),
    "two_sample": Metric("two_sample", "Two-sample test", "minimize", GENERATION),
}
