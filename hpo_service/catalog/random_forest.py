"""A random forest: many trees on drawn rows and columns, averaged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hpo_service.catalog.family import Family
from hpo_service.catalog.trees import TreeHyperparameters
from hpo_service.protocol import Choice, IntRange


class RandomForestHyperparameters(TreeHyperparameters):
    """Hyperparameters of scikit-learn's `RandomForestClassifier` and `RandomForestRegressor`."""

    n_estimators: Annotated[int, Field(ge=1, le=10_000, description="Trees.")] = 100
    max_features: Annotated[
        Annotated[float, Field(gt=0, le=1)] | Literal["auto", "sqrt", "log2"],
        Field(
            description="Columns that each split looks at: a share of them; sqrt or log2 of their "
            "number; auto: sqrt for classes, all for numbers."
        ),
    ] = "auto"


RANDOM_FOREST = Family(
    name="random_forest",
    title="Random forest",
    description="Trees of scikit-learn on bootstrapped rows, averaged (Breiman 2001).",
    tasks=("classification", "regression"),
    hyperparameters=RandomForestHyperparameters,
    network=False,
    baseline=True,
    default_space={
        "max_features": Choice(type="categorical", choices=["auto", "log2", 0.1, 0.3, 0.6, 1.0]),
        "min_samples_leaf": IntRange(type="int", low=1, high=32, log=True),
        "min_samples_split": IntRange(type="int", low=2, high=64, log=True),
    },
)
