"""The generative adversarial network."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hpo_service.catalog.activations import Activation
from hpo_service.catalog.family import PASS, Family, NetworkHyperparameters
from hpo_service.catalog.initializations import Initialization
from hpo_service.catalog.optimizers import Optimizer
from hpo_service.protocol import Choice, FloatRange, IntRange

MAX_DEPTH = 10
GanLoss = Literal["standard", "hinge"]
Depth = Annotated[int, Field(ge=1, le=MAX_DEPTH, description="Number of hidden layers.")]
Width = Annotated[int, Field(ge=1, le=4096, description="Units of each hidden layer.")]


class GanHyperparameters(NetworkHyperparameters):
    """Hyperparameters of a generator and its discriminator, both fully connected.

    `learning_rate` is the generator's; `label_smoothing` that of real rows alone (Salimans et al.
    2016), with the standard loss.
    """

    generator_layers: Depth = 2
    generator_units: Width = 128
    discriminator_layers: Depth = 2
    discriminator_units: Width = 128
    learning_rate: Annotated[
        float, Field(gt=0, le=10, description="Step size of the generator.")
    ] = 1e-3
    discriminator_rate: Annotated[
        float,
        Field(ge=0.01, le=100, description="The discriminator's step size, in generator's."),
    ] = 2.0
    noise: Annotated[
        int, Field(ge=1, le=1024, description="Random numbers that a row is made from.")
    ] = 16
    loss: Annotated[
        GanLoss,
        Field(description="standard: not saturating (Goodfellow et al. 2014); or hinge."),
    ] = "standard"
    activation: Annotated[Activation, Field(description="After every hidden layer.")] = "leaky_relu"
    dropout: Annotated[
        float,
        Field(ge=0, le=0.95, description="Share of the discriminator's hidden units left out."),
    ] = 0.0
    gradient_penalty: Annotated[
        float,
        Field(
            ge=0,
            le=1000,
            description="Weight of the discriminator's squared slope at real rows (R1, Mescheder "
            "et al. 2018); 0: none.",
        ),
    ] = 3.0
    average: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Rows are made by a moving average of the generator's weights, which "
            "keeps this share of itself at each step; 0: by the newest weights.",
        ),
    ] = 0.999
    initialization: Annotated[
        Initialization, Field(description="Of the weights; biases start at zero.")
    ] = "he_uniform"
    # Momentum, Adam's too, makes adversaries circle: with it the distances were worse.
    optimizer: Annotated[
        Optimizer, Field(description="The rule that turns gradients to steps.")
    ] = "rmsprop"
    momentum: Annotated[
        float, Field(ge=0, lt=1, description="Of sgd and rmsprop; the adams have their own.")
    ] = 0.0
    epochs: Annotated[
        int, Field(ge=1, le=100_000, description="Passes over the training rows, at most.")
    ] = 200


GAN = Family(
    name="gan",
    title="Generative adversarial network",
    description="Learns to make rows like those of a table or of small images; the target is "
    "left aside.",
    tasks=("generation",),
    hyperparameters=GanHyperparameters,
    network=True,
    alike=PASS
    | {
        "generator_layers",
        "generator_units",
        "discriminator_layers",
        "discriminator_units",
        "noise",
        "activation",
        "loss",
        "gradient_penalty",
    },
    kinds=("table", "image"),
    default_space={
        "generator_layers": IntRange(type="int", low=1, high=3),
        "generator_units": IntRange(type="int", low=64, high=256, log=True),
        "discriminator_layers": IntRange(type="int", low=1, high=3),
        "discriminator_units": IntRange(type="int", low=64, high=256, log=True),
        "learning_rate": FloatRange(type="float", low=2e-4, high=3e-3, log=True),
        "discriminator_rate": FloatRange(type="float", low=0.5, high=8.0, log=True),
        "noise": IntRange(type="int", low=4, high=64, log=True),
        "loss": Choice(type="categorical", choices=["standard", "hinge"]),
        "activation": Choice(type="categorical", choices=["leaky_relu", "swish", "tanh"]),
        "gradient_penalty": FloatRange(type="float", low=0.1, high=10.0, log=True),
        "average": Choice(type="categorical", choices=[0.99, 0.999]),
        "batch_size": Choice(type="categorical", choices=[32, 64, 128]),
    },
)
