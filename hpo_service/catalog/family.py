"""What a model family declares: its tasks, hyperparameters, default space. No code that trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hpo_service import protocol
from hpo_service.catalog.optimizers import Optimizer
from hpo_service.catalog.schedules import Schedule
from hpo_service.protocol import Choice, FloatRange

ClassWeights = Literal["none", "balanced"]
EarlyStopping = Literal["mean", "inner"]
RestartScore = Literal["mean", "best", "ensemble"]


class Hyperparameters(BaseModel):
    """What every family has: each hyperparameter has a default and states its bounds."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    train_share: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Of each fold's training rows, the share that is trained on; what scores "
            "stays, and a refit takes all rows. A range of it makes a learning curve.",
        ),
    ] = 1.0

    def of_model(self) -> dict[str, Any]:
        """What the model itself is given: all but what says which rows it is shown."""
        return self.model_dump(exclude={"train_share"})


class NetworkHyperparameters(Hyperparameters):
    """What every family trained by epochs has; the names are the same in each of them."""

    learning_rate: Annotated[
        float, Field(gt=0, le=10, description="Step size of the optimizer.")
    ] = 3e-3
    schedule: Annotated[
        Schedule, Field(description="How the learning rate goes on from epoch to epoch.")
    ] = "constant"
    schedule_epochs: Annotated[
        int,
        Field(
            ge=1,
            le=100_000,
            description="Epochs between drops (step), without a better mean (plateau), of warm_up.",
        ),
    ] = 10
    schedule_factor: Annotated[
        float, Field(gt=0, lt=1, description="What step and plateau multiply the rate by.")
    ] = 0.1
    batch_size: Annotated[
        int, Field(ge=1, le=65536, description="Training rows per step; the last may be fewer.")
    ] = 32
    epochs: Annotated[
        int, Field(ge=1, le=100_000, description="Passes over the training rows, at most.")
    ] = 30
    optimizer: Annotated[
        Optimizer, Field(description="The rule that turns gradients to steps.")
    ] = "adam"
    momentum: Annotated[
        float, Field(ge=0, lt=1, description="Of sgd and rmsprop; the adams have their own.")
    ] = 0.9
    nesterov: Annotated[
        bool, Field(description="Nesterov's momentum, of sgd alone (Sutskever et al. 2013).")
    ] = False
    iterations: Annotated[
        int | None,
        Field(ge=1, le=10**9, description="Steps of the optimizer in all, instead of `epochs`."),
    ] = None
    weight_decay: Annotated[
        float, Field(ge=0, le=10, description="L2 penalty: added to the gradient as in PyTorch.")
    ] = 0.0
    l1: Annotated[float, Field(ge=0, le=10, description="L1 penalty on all weights.")] = 0.0
    performance_ratio: Annotated[
        float,
        Field(ge=0, lt=1, description="Share of the mean squared weight in the loss."),
    ] = 0.0
    label_smoothing: Annotated[
        float,
        Field(ge=0, lt=1, description="Share of a label spread over all classes; classes only."),
    ] = 0.0
    clip_norm: Annotated[
        float, Field(ge=0, le=1e6, description="Longest gradient of a network; 0: no limit.")
    ] = 0.0
    class_weights: Annotated[
        ClassWeights,
        Field(description="balanced: rows count by the inverse share of their class."),
    ] = "none"
    patience: Annotated[
        int,
        Field(
            ge=0,
            le=100_000,
            description="Early stopping: epochs without a better mean over all folds; 0: off.",
        ),
    ] = 0
    early_stopping: Annotated[
        EarlyStopping,
        Field(
            description="What early stopping watches: mean, the folds that score; inner, "
            "15 % of each training fold, set aside for it."
        ),
    ] = "mean"
    restarts: Annotated[
        int, Field(ge=1, le=100, description="Networks of each fold, from other first weights.")
    ] = 1
    restart_score: Annotated[
        RestartScore,
        Field(
            description="Of several restarts: mean, of their scores; best, the one with the "
            "lowest training loss; ensemble, the score of their averaged predictions."
        ),
    ] = "mean"


@dataclass(frozen=True)
class Family:
    """One kind of model that can be tuned.

    `network`: trained by epochs and so with a curve; else fitted at once (one step).
    `baseline`: scored with its defaults beside every study of its tasks; `baseline_width`: where
    that is not cheap on wide data, the most inputs times classes (or targets) it is done for.
    `alike`: the hyperparameters that networks have in common which train in one pass.
    `kinds`: of data it can be given; `per_step`: whether it can tell a class for each step.
    """

    name: str
    title: str
    description: str
    tasks: tuple[protocol.StudyTask, ...]
    hyperparameters: type[Hyperparameters]
    default_space: dict[str, protocol.Distribution]
    network: bool
    baseline: bool = False
    baseline_width: int | None = None
    alike: frozenset[str] = frozenset()
    kinds: tuple[protocol.DataKind, ...] = ("table", "image", "sequence", "symbols")
    per_step: bool = False


# What networks of one pass have in common in every family: their batches, and their rows.
PASS = frozenset({"batch_size", "early_stopping"})


def training_space(
    sgd: tuple[float, float], adaptive: tuple[float, float], batch_sizes: list[int]
) -> dict[str, protocol.Distribution]:
    """The part of a default space that all networks share: how to train.

    `sgd` and `adaptive`: ranges of the learning rate, which differ by optimizer.
    """
    adaptives: list[protocol.ParamValue] = ["adam", "rmsprop"]
    sizes: list[protocol.ParamValue] = [*batch_sizes]
    return {
        "optimizer": Choice(type="categorical", choices=["sgd", *adaptives]),
        "momentum": FloatRange(
            type="float", low=0.0, high=0.98, when={"optimizer": ["sgd", "rmsprop"]}
        ),
        "learning_rate@sgd": FloatRange(
            type="float", low=sgd[0], high=sgd[1], log=True, when={"optimizer": ["sgd"]}
        ),
        "learning_rate@adaptive": FloatRange(
            type="float",
            low=adaptive[0],
            high=adaptive[1],
            log=True,
            when={"optimizer": adaptives},
        ),
        "batch_size": Choice(type="categorical", choices=sizes),
        "weight_decay": FloatRange(type="float", low=1e-6, high=1e-2, log=True),
    }
