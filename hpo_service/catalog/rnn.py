"""The recurrent network: for sequences and texts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hpo_service.catalog.family import PASS, Family, NetworkHyperparameters, training_space
from hpo_service.catalog.initializations import Initialization
from hpo_service.protocol import Choice, FloatRange, IntRange

RecurrentCell = Literal["elman", "lstm", "gru"]
Readout = Literal["last", "mean", "max"]


class RnnHyperparameters(NetworkHyperparameters):
    """Hyperparameters of a recurrent network."""

    cell: Annotated[
        RecurrentCell,
        Field(
            description="elman, the plain one (Elman 1990); lstm (Hochreiter and Schmidhuber "
            "1997, forget gates of Gers et al. 2000); gru (Cho et al. 2014)."
        ),
    ] = "gru"
    hidden_layers: Annotated[int, Field(ge=1, le=4, description="Recurrent layers.")] = 1
    hidden_units: Annotated[
        int, Field(ge=1, le=1024, description="Units of each layer, for each direction.")
    ] = 64
    bidirectional: Annotated[
        bool,
        Field(
            description="A second pass from the end; not where the next symbol is to be told, "
            "which it would see."
        ),
    ] = False
    dropout: Annotated[
        float,
        Field(
            ge=0,
            le=0.95,
            description="Share of units left out between layers and before the output, the same "
            "ones at all steps of a row (Gal and Ghahramani 2016).",
        ),
    ] = 0.0
    readout: Annotated[
        Readout,
        Field(
            description="What the output sees of a row: last, the state at its end; mean or max "
            "over its steps. With a class for each step, the step's own state."
        ),
    ] = "last"
    activation: Annotated[
        Literal["tanh", "relu"], Field(description="Of elman; lstm and gru have their own.")
    ] = "tanh"
    embedding: Annotated[
        int, Field(ge=1, le=1024, description="Numbers learned for each symbol of a text.")
    ] = 32
    initialization: Annotated[
        Initialization,
        Field(
            description="Of the weights, gate by gate; biases start at zero, those of the "
            "forget gates at one."
        ),
    ] = "xavier_uniform"
    learning_rate: Annotated[
        float, Field(gt=0, le=10, description="Step size of the optimizer.")
    ] = 1e-2
    clip_norm: Annotated[
        float, Field(ge=0, le=1e6, description="Longest gradient of a network; 0: no limit.")
    ] = 1.0


RNN = Family(
    name="rnn",
    title="Recurrent network",
    description="Reads a row step by step: the network for sequences, forecasts and texts.",
    tasks=("classification", "regression"),
    hyperparameters=RnnHyperparameters,
    network=True,
    alike=PASS
    | {
        "cell",
        "hidden_layers",
        "hidden_units",
        "bidirectional",
        "readout",
        "activation",
        "embedding",
    },
    kinds=("sequence", "symbols"),
    per_step=True,
    # Not `bidirectional`: a study of the next symbol has to refuse it.
    default_space={
        "cell": Choice(type="categorical", choices=["gru", "lstm"]),
        "hidden_layers": IntRange(type="int", low=1, high=2),
        "hidden_units": IntRange(type="int", low=16, high=128, log=True),
        "dropout": FloatRange(type="float", low=0.0, high=0.5),
        "readout": Choice(type="categorical", choices=["last", "mean", "max"]),
        **training_space(sgd=(1e-2, 1.0), adaptive=(1e-3, 3e-2), batch_sizes=[16, 32, 64]),
    },
)
