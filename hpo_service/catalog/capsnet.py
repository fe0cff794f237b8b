"""The capsule network."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hpo_service.catalog.augmentation import AugmentedHyperparameters
from hpo_service.catalog.family import PASS, Family, training_space
from hpo_service.catalog.initializations import Initialization
from hpo_service.protocol import Choice, FloatRange, IntRange

Units = Annotated[int, Field(ge=1, le=4096)]
Dimensions = Annotated[int, Field(ge=1, le=64)]


class CapsnetHyperparameters(AugmentedHyperparameters):
    """Hyperparameters of a capsule network (Sabour, Frosst and Hinton 2017).

    The paper's, for images of 28 by 28: channels 256, kernel 9, 32 primary capsules, decoder of 512
    and 1024 units, shift 2. The defaults are for smaller images and for processors.
    """

    channels: Annotated[
        int, Field(ge=1, le=1024, description="Width: channels of the first convolution.")
    ] = 32
    kernel: Annotated[
        int,
        Field(ge=1, le=15, description="Side of both convolutions' kernels, at most the image's."),
    ] = 3
    stride: Annotated[int, Field(ge=1, le=4, description="Pixels between primary capsules.")] = 2
    primary_capsules: Annotated[
        int, Field(ge=1, le=128, description="Kinds of primary capsules, at every place.")
    ] = 8
    primary_dimensions: Annotated[
        Dimensions, Field(description="Numbers of a primary capsule.")
    ] = 8
    class_dimensions: Annotated[Dimensions, Field(description="Numbers of a class's capsule.")] = 16
    routing_iterations: Annotated[
        int, Field(ge=1, le=10, description="Rounds in which capsules agree; 1: all count alike.")
    ] = 3
    reconstruction: Annotated[
        float,
        Field(ge=0, le=10, description="What a pixel's squared error counts beside the margins."),
    ] = 5e-4
    decoder_units: Annotated[
        Units, Field(description="Units of the reconstruction's first hidden layer.")
    ] = 64
    decoder_units_2: Annotated[
        Units, Field(description="Units of the reconstruction's second hidden layer.")
    ] = 128
    initialization: Annotated[
        Initialization,
        Field(description="Of convolutions and decoder; biases start at zero."),
    ] = "he_uniform"


CAPSNET = Family(
    name="capsnet",
    title="Capsule network",
    description="Capsules routed by agreement: for small images, one class each.",
    tasks=("classification",),
    hyperparameters=CapsnetHyperparameters,
    network=True,
    alike=PASS
    | {
        "channels",
        "kernel",
        "stride",
        "primary_capsules",
        "primary_dimensions",
        "class_dimensions",
        "routing_iterations",
        "decoder_units",
        "decoder_units_2",
    },
    kinds=("image",),
    default_space={
        "channels": IntRange(type="int", low=16, high=64, log=True),
        "kernel": IntRange(type="int", low=3, high=5),
        "primary_capsules": IntRange(type="int", low=4, high=16, log=True),
        "primary_dimensions": Choice(type="categorical", choices=[4, 8]),
        "class_dimensions": Choice(type="categorical", choices=[8, 16]),
        "routing_iterations": IntRange(type="int", low=1, high=3),
        "reconstruction": FloatRange(type="float", low=1e-5, high=5e-3, log=True),
        **training_space(sgd=(1e-2, 0.5), adaptive=(5e-4, 1e-2), batch_sizes=[32, 64]),
    },
)
