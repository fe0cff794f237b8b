"""The convolutional network."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hpo_service.catalog.activations import Activation
from hpo_service.catalog.augmentation import AugmentedHyperparameters
from hpo_service.catalog.family import PASS, Family, training_space
from hpo_service.catalog.initializations import Initialization
from hpo_service.protocol import Choice, FloatRange, IntRange

MOST_CHANNELS = 4096

Pooling = Literal["max", "average", "none"]
Normalization = Literal["none", "batch", "layer"]
Head = Literal["dense", "global"]


class CnnHyperparameters(AugmentedHyperparameters):
    """Hyperparameters of a convolutional network, for images and for signals over time.

    A block is a convolution, a normalization, an activation, a pooling and a dropout of channels.
    """

    hidden_layers: Annotated[int, Field(ge=1, le=6, description="Depth: number of blocks.")] = 2
    channels: Annotated[
        int, Field(ge=1, le=1024, description="Width: channels of the first block.")
    ] = 16
    channel_growth: Annotated[
        float,
        Field(ge=0.25, le=4, description="Channels of a block in channels of the one before."),
    ] = 2.0
    kernel: Annotated[
        int,
        Field(
            ge=1,
            le=11,
            description="Side of the kernels, odd; the part of one that reaches beyond both ends "
            "of an image from everywhere is left out.",
        ),
    ] = 3
    stride: Annotated[
        int, Field(ge=1, le=4, description="Pixels or steps a kernel moves by, in every block.")
    ] = 1
    pooling: Annotated[
        Pooling,
        Field(description="After every block: of two by two, where a side has four or more."),
    ] = "max"
    activation: Annotated[Activation, Field(description="After every hidden layer.")] = "relu"
    leaky_slope: Annotated[
        float, Field(ge=0, lt=1, description="Of leaky_relu: the slope below zero.")
    ] = 0.01
    normalization: Annotated[
        Normalization,
        Field(description="Before the activation of a block: over the batch, or over each row."),
    ] = "batch"
    dropout: Annotated[
        float,
        Field(ge=0, le=0.95, description="Share of channels and of head units left out."),
    ] = 0.2
    head: Annotated[
        Head,
        Field(
            description="After the blocks: dense, a fully connected hidden layer; global, the mean "
            "of each channel."
        ),
    ] = "dense"
    head_units: Annotated[
        int, Field(ge=1, le=4096, description="Units of the hidden layer of a dense head.")
    ] = 64
    initialization: Annotated[
        Initialization, Field(description="Of the weights; biases start at zero.")
    ] = "he_uniform"

    @model_validator(mode="after")
    def _kernels_have_a_middle(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} has no middle: take an odd number")
        return self

    @model_validator(mode="after")
    def _channels_stay_within_reason(self) -> Self:
        if max(self.widths) > MOST_CHANNELS:
            raise ValueError(
                f"channels grow to {max(self.widths)}, more than {MOST_CHANNELS}: "
                "take fewer channels or blocks, or less channel_growth"
            )
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each block, first to last."""
        grown = (self.channels * self.channel_growth**at for at in range(self.hidden_layers))
        return tuple(max(1, round(each)) for each in grown)


CNN = Family(
    name="cnn",
    title="Convolutional network",
    description="Convolutions and pooling: the network for images and for signals over time.",
    tasks=("classification", "regression"),
    hyperparameters=CnnHyperparameters,
    network=True,
    alike=PASS
    | {
        "hidden_layers",
        "channels",
        "channel_growth",
        "kernel",
        "stride",
        "pooling",
        "activation",
        "leaky_slope",
        "normalization",
        "head",
        "head_units",
    },
    kinds=("image", "sequence"),
    default_space={
        "hidden_layers": IntRange(type="int", low=2, high=3),
        "channels": IntRange(type="int", low=16, high=40, log=True),
        "channel_growth": Choice(type="categorical", choices=[1.0, 2.0]),
        "kernel": IntRange(type="int", low=3, high=5, step=2),
        "pooling": Choice(type="categorical", choices=["max", "average"]),
        "activation": Choice(type="categorical", choices=["relu", "leaky_relu", "prelu", "swish"]),
        "normalization": Choice(type="categorical", choices=["batch", "layer"]),
        "dropout": FloatRange(type="float", low=0.0, high=0.4),
        "head": Choice(type="categorical", choices=["dense", "global"]),
        "head_units": IntRange(type="int", low=32, high=128, log=True, when={"head": ["dense"]}),
        "initialization": Choice(
            type="categorical", choices=["he_uniform", "xavier_uniform", "orthogonal"]
        ),
        **training_space(sgd=(1e-2, 0.3), adaptive=(7e-4, 1e-2), batch_sizes=[32, 64]),
    },
)
