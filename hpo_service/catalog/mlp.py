"""The multilayer perceptron."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from hpo_service.catalog.activations import Activation
from hpo_service.catalog.family import Family, NetworkHyperparameters, training_space
from hpo_service.catalog.initializations import Initialization
from hpo_service.protocol import Choice, FloatRange, IntRange

MAX_DEPTH = 10
Width = Annotated[int, Field(ge=1, le=4096)]


class MlpHyperparameters(NetworkHyperparameters):
    """Hyperparameters of a multilayer perceptron."""

    hidden_layers: Annotated[
        int, Field(ge=1, le=MAX_DEPTH, description="Depth: number of hidden layers.")
    ] = 2
    hidden_units: Annotated[
        Width | Annotated[list[Width], Field(min_length=1, max_length=MAX_DEPTH)],
        Field(description="Width: one number for all hidden layers, or a list of one for each."),
    ] = 64
    activation: Annotated[Activation, Field(description="After every hidden layer.")] = "relu"
    dropout: Annotated[
        float, Field(ge=0, le=0.95, description="Share of hidden units left out at each step.")
    ] = 0.0
    initialization: Annotated[
        Initialization, Field(description="Of the weights; biases start at zero.")
    ] = "he_uniform"

    @model_validator(mode="after")
    def _depth_is_the_length_of_the_list(self) -> Self:
        widths, depth = self.hidden_units, self.hidden_layers
        said = "hidden_layers" in self.model_fields_set
        if said and isinstance(widths, list) and len(widths) != depth:
            raise ValueError(
                f"hidden_units lists {len(widths)} layers and hidden_layers says {depth}: "
                "leave hidden_layers out"
            )
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each hidden layer, first to last."""
        if isinstance(self.hidden_units, list):
            return tuple(self.hidden_units)
        return (self.hidden_units,) * self.hidden_layers


MLP = Family(
    name="mlp",
    title="Multilayer perceptron",
    description="Fully connected layers: the network for tables.",
    tasks=("classification", "regression"),
    hyperparameters=MlpHyperparameters,
    network=True,
    default_space={
        "hidden_layers": IntRange(type="int", low=1, high=3),
        "hidden_units": IntRange(type="int", low=32, high=256, log=True),
        "activation": Choice(
            type="categorical", choices=["relu", "leaky_relu", "prelu", "swish", "tanh", "sigmoid"]
        ),
        "dropout": FloatRange(type="float", low=0.0, high=0.5),
        "initialization": Choice(
            type="categorical", choices=["he_uniform", "xavier_uniform", "orthogonal"]
        ),
        **training_space(sgd=(1e-3, 0.5), adaptive=(1e-4, 3e-2), batch_sizes=[32, 64, 128]),
    },
)
