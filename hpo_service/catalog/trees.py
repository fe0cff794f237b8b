"""What the families of single trees and of forests share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hpo_service.catalog.family import Hyperparameters


class TreeHyperparameters(Hyperparameters):
    """How a tree grows; the names are scikit-learn's."""

    max_depth: Annotated[
        int | None, Field(ge=1, le=10_000, description="Splits above a leaf, at most; null: any.")
    ] = None
    max_leaf_nodes: Annotated[
        int | None,
        Field(ge=2, le=1_000_000, description="Leaves of a tree, at most; null: any number."),
    ] = None
    min_samples_split: Annotated[
        int, Field(ge=2, le=1_000_000, description="Rows that a node needs to be split.")
    ] = 2
    min_samples_leaf: Annotated[
        int, Field(ge=1, le=1_000_000, description="Rows that a leaf has at least.")
    ] = 1
