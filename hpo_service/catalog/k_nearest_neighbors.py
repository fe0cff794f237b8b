"""k nearest neighbours: what the rows most like this one were."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hpo_service.catalog.family import Family, Hyperparameters
from hpo_service.protocol import Choice, FloatRange, IntRange


class KNearestNeighborsHyperparameters(Hyperparameters):
    """Hyperparameters of scikit-learn's `KNeighborsClassifier` and `KNeighborsRegressor`."""

    n_neighbors: Annotated[
        int, Field(ge=1, le=100_000, description="Neighbours; all rows where there are fewer.")
    ] = 5
    weights: Annotated[
        Literal["uniform", "distance"],
        Field(description="distance: a neighbour counts by the inverse of its distance."),
    ] = "uniform"
    p: Annotated[
        float, Field(ge=1, le=100, description="Minkowski's power: 1, city blocks; 2, Euclidean.")
    ] = 2.0


K_NEAREST_NEIGHBORS = Family(
    name="k_nearest_neighbors",
    title="k nearest neighbours",
    description="The mean of the most similar training rows, by scikit-learn.",
    tasks=("classification", "regression"),
    hyperparameters=KNearestNeighborsHyperparameters,
    network=False,
    baseline=True,
    default_space={
        "n_neighbors": IntRange(type="int", low=1, high=100, log=True),
        "weights": Choice(type="categorical", choices=["uniform", "distance"]),
        "p": FloatRange(type="float", low=1.0, high=2.0),
    },
)
