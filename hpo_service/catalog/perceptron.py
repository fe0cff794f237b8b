"""The perceptron: one layer that says which class, and nothing of how likely."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hpo_service.catalog.family import PASS, Family, NetworkHyperparameters, training_space
from hpo_service.catalog.initializations import Initialization
from hpo_service.catalog.optimizers import Optimizer
from hpo_service.protocol import Choice

Rule = Literal["perceptron", "surrogate"]


class PerceptronHyperparameters(NetworkHyperparameters):
    """Hyperparameters of a perceptron."""

    rule: Annotated[
        Rule,
        Field(
            description="How it learns: perceptron, from its mistakes alone (Rosenblatt 1958); "
            "surrogate, by the gradient of the cross-entropy instead of the step's, which is zero."
        ),
    ] = "perceptron"
    bias: Annotated[bool, Field(description="A learned bias for every class.")] = True
    initialization: Annotated[
        Initialization, Field(description="Of the weights; biases start at zero.")
    ] = "xavier_uniform"
    optimizer: Annotated[
        Optimizer, Field(description="The rule that turns gradients to steps.")
    ] = "sgd"
    learning_rate: Annotated[
        float, Field(gt=0, le=10, description="Step size of the optimizer.")
    ] = 0.05


PERCEPTRON = Family(
    name="perceptron",
    title="Perceptron",
    description="One layer with a step as output: the first network, linear between classes.",
    tasks=("classification",),
    hyperparameters=PerceptronHyperparameters,
    network=True,
    alike=PASS | {"rule"},
    default_space={
        "rule": Choice(type="categorical", choices=["perceptron", "surrogate"]),
        **training_space(sgd=(1e-3, 0.5), adaptive=(1e-4, 3e-2), batch_sizes=[16, 32, 64]),
    },
)
