"""The elastic net: between ridge and lasso."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hpo_service.catalog.family import Family
from hpo_service.catalog.lasso import LassoHyperparameters
from hpo_service.protocol import FloatRange


class ElasticNetHyperparameters(LassoHyperparameters):
    """Hyperparameters of scikit-learn's `ElasticNet`, on targets of standard deviation 1."""

    l1_ratio: Annotated[
        float, Field(ge=0.01, le=1, description="Share of the L1 penalty; the rest is L2.")
    ] = 0.5


ELASTIC_NET = Family(
    name="elastic_net",
    title="Elastic net",
    description="Linear regression of scikit-learn, L1 and L2 penalty (Zou and Hastie 2005).",
    tasks=("regression",),
    hyperparameters=ElasticNetHyperparameters,
    network=False,
    baseline=True,
    default_space={
        "alpha": FloatRange(type="float", low=1e-4, high=1.0, log=True),
        "l1_ratio": FloatRange(type="float", low=0.05, high=1.0),
    },
)
