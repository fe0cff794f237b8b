"""The multilayer perceptron."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hpo_service.catalog.activations import Activation
from hpo_service.catalog.family import PASS, Family, NetworkHyperparameters, training_space
from hpo_service.catalog.initializations import Initialization
from hpo_service.protocol import Choice, FloatRange, IntRange

MAX_DEPTH = 10
# What is left of the width at the narrow end of a funnel or diamond.
NARROW = 1 / 4
Width = Annotated[int, Field(ge=1, le=4096)]
Form = Literal["constant", "funnel", "diamond"]
Normalization = Literal["none", "batch", "layer"]


class MlpHyperparameters(NetworkHyperparameters):
    """Hyperparameters of a multilayer perceptron."""

    hidden_layers: Annotated[
        int, Field(ge=1, le=MAX_DEPTH, description="Depth: number of hidden layers.")
    ] = 2
    hidden_units: Annotated[
        Width | Annotated[list[Width], Field(min_length=1, max_length=MAX_DEPTH)],
        Field(description="Width: one number for all hidden layers, or a list of one for each."),
    ] = 64
    shape: Annotated[
        Form,
        Field(
            description="How the layers' widths follow from one hidden_units: funnel, shrinking "
            "to a quarter; diamond, growing from a quarter and shrinking to it."
        ),
    ] = "constant"
    activation: Annotated[
        Activation,
        Field(description="After every hidden layer; step learns by a sigmoid's derivative."),
    ] = "relu"
    leaky_slope: Annotated[
        float, Field(ge=0, lt=1, description="Of leaky_relu: the slope below zero.")
    ] = 0.01
    bias: Annotated[bool, Field(description="A learned bias for every unit.")] = True
    normalization: Annotated[
        Normalization,
        Field(description="Before the activation, over the rows of a batch or a layer's units."),
    ] = "none"
    dropout: Annotated[
        float, Field(ge=0, le=0.95, description="Share of hidden units left out at each step.")
    ] = 0.0
    input_dropout: Annotated[
        float, Field(ge=0, le=0.95, description="Share of inputs left out at each step.")
    ] = 0.0
    embedding: Annotated[
        int,
        Field(
            ge=0,
            le=256,
            description="Learned numbers that stand for a category of a column; 0: one-hot.",
        ),
    ] = 0
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

    @model_validator(mode="after")
    def _a_list_is_its_own_form(self) -> Self:
        if isinstance(self.hidden_units, list) and self.shape != "constant":
            raise ValueError(
                f"hidden_units lists the width of each layer: shape {self.shape} needs one number"
            )
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each hidden layer, first to last.

        A funnel's layer i of n has hidden_units * NARROW ** (i / (n - 1)); a diamond's widest
        layers are in the middle and have hidden_units, its outer ones NARROW of that, and in
        between the widths form a geometric series too. All are rounded, and 1 at least.
        """
        if isinstance(self.hidden_units, list):
            return tuple(self.hidden_units)
        layers = range(self.hidden_layers)
        narrowing = [_narrowing(self.shape, at, self.hidden_layers) for at in layers]
        return tuple(max(1, round(self.hidden_units * NARROW**each)) for each in narrowing)


def _narrowing(form: Form, at: int, layers: int) -> float:
    """0 where a layer has the full width, 1 where it is narrowest."""
    if form == "constant":
        return 0.0
    if form == "funnel":
        return at / max(1, layers - 1)
    # Twice the distance from the middle; two layers in the middle are both of full width.
    middle, end = (layers - 1) % 2, layers - 1
    return (abs(2 * at - end) - middle) / max(1, end - middle)


MLP = Family(
    name="mlp",
    title="Multilayer perceptron",
    description="Fully connected layers: the network for tables.",
    tasks=("classification", "regression"),
    hyperparameters=MlpHyperparameters,
    network=True,
    alike=PASS | {"hidden_layers", "hidden_units", "shape", "normalization", "embedding"},
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
