"""Hyperparameters of augmentation: how training rows are changed at random."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hpo_service.catalog.family import NetworkHyperparameters


class AugmentedHyperparameters(NetworkHyperparameters):
    """What families for images have beside the hyperparameters of all networks."""

    shift: Annotated[
        int,
        Field(ge=0, le=64, description="Training rows move by up to so many pixels or steps."),
    ] = 0
    flip: Annotated[
        bool, Field(description="Half of the training images are mirrored left to right.")
    ] = False
    crop: Annotated[
        int,
        Field(
            ge=0,
            le=64,
            description="Training images lose so many rows and columns of pixels at their edges, "
            "divided between opposite edges at random, and are filled up with zeros.",
        ),
    ] = 0
