"""Gradient boosting of trees: on tables the one to beat."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hpo_service.catalog.family import Family, Hyperparameters
from hpo_service.protocol import FloatRange, IntRange


class GradientBoostingHyperparameters(Hyperparameters):
    """Hyperparameters of scikit-learn's `HistGradientBoostingClassifier` and `...Regressor`.

    All iterations are made, on any number of rows: none are set aside to stop early by.
    """

    learning_rate: Annotated[
        float, Field(gt=0, le=10, description="What each tree's leaves are multiplied by.")
    ] = 0.1
    max_iter: Annotated[
        int, Field(ge=1, le=10_000, description="Iterations: trees, per class where more than 2.")
    ] = 100
    max_leaf_nodes: Annotated[
        int | None, Field(ge=2, le=100_000, description="Leaves of a tree; null: any number.")
    ] = 31
    max_depth: Annotated[
        int | None, Field(ge=1, le=10_000, description="Splits above a leaf, at most; null: any.")
    ] = None
    min_samples_leaf: Annotated[
        int, Field(ge=1, le=1_000_000, description="Rows that a leaf has at least.")
    ] = 20
    l2_regularization: Annotated[
        float, Field(ge=0, le=1e10, description="L2 penalty on the values of leaves.")
    ] = 0.0
    max_features: Annotated[
        float, Field(gt=0, le=1, description="Share of the columns that each split looks at.")
    ] = 1.0


GRADIENT_BOOSTING = Family(
    name="gradient_boosting",
    title="Gradient boosting",
    description="Histogram gradient boosting of scikit-learn: each tree mends those before it.",
    tasks=("classification", "regression"),
    hyperparameters=GradientBoostingHyperparameters,
    network=False,
    baseline=True,
    # There is a tree for each class, and each looks at all columns: this takes some 10 s a fold.
    baseline_width=1000,
    default_space={
        "learning_rate": FloatRange(type="float", low=0.01, high=0.5, log=True),
        "max_iter": IntRange(type="int", low=20, high=500, log=True),
        "max_leaf_nodes": IntRange(type="int", low=4, high=64, log=True),
        "min_samples_leaf": IntRange(type="int", low=1, high=100, log=True),
        "l2_regularization": FloatRange(type="float", low=1e-8, high=100.0, log=True),
        "max_features": FloatRange(type="float", low=0.1, high=1.0),
    },
)
