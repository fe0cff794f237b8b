"""What a model family declares: its tasks, hyperparameters, default space. No code that trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from hpo_service import protocol
from hpo_service.catalog.optimizers import Optimizer


class Hyperparameters(BaseModel):
    """Base of each family's hyperparameters: every one has a default and states its bounds."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class NetworkHyperparameters(Hyperparameters):
    """What every family trained by epochs has; the names are the same in each of them."""

    learning_rate: Annotated[
        float, Field(gt=0, le=10, description="Step size of the optimizer.")
    ] = 3e-3
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
        float, Field(ge=0, lt=1, description="Of sgd and rmsprop; adam has its own.")
    ] = 0.9
    weight_decay: Annotated[
        float, Field(ge=0, le=10, description="L2 penalty: added to the gradient as in PyTorch.")
    ] = 0.0
    patience: Annotated[
        int,
        Field(
            ge=0,
            le=100_000,
            description="Early stopping: epochs without a better mean over all folds; 0: off.",
        ),
    ] = 0


@dataclass(frozen=True)
class Family:
    """One kind of model that can be tuned.

    `network`: trained by epochs and so with a curve; else fitted at once (one step).
    `baseline`: scored with its defaults beside every study of its tasks.
    `kinds`: of data it can be given; `per_step`: whether it can tell a class for each step.
    """

    name: str
    title: str
    description: str
    tasks: tuple[protocol.Task, ...]
    hyperparameters: type[Hyperparameters]
    default_space: dict[str, protocol.Distribution]
    network: bool
    baseline: bool = False
    kinds: tuple[protocol.DataKind, ...] = ("table", "image", "sequence", "symbols")
    per_step: bool = False
