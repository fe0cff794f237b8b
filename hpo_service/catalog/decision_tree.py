"""A decision tree: the model that can be read."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hpo_service.catalog.family import Family
from hpo_service.catalog.trees import TreeHyperparameters
from hpo_service.protocol import FloatRange, IntRange


class DecisionTreeHyperparameters(TreeHyperparameters):
    """Hyperparameters of scikit-learn's `DecisionTreeClassifier` and `DecisionTreeRegressor`."""

    max_features: Annotated[
        float, Field(gt=0, le=1, description="Share of the columns that each split looks at.")
    ] = 1.0


DECISION_TREE = Family(
    name="decision_tree",
    title="Decision tree",
    description="One tree of scikit-learn, split by Gini impurity or squared error.",
    tasks=("classification", "regression"),
    hyperparameters=DecisionTreeHyperparameters,
    network=False,
    baseline=True,
    default_space={
        "min_samples_leaf": IntRange(type="int", low=1, high=64, log=True),
        "min_samples_split": IntRange(type="int", low=2, high=128, log=True),
        "max_features": FloatRange(type="float", low=0.1, high=1.0),
    },
)
