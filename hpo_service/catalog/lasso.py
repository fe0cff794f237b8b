"""The lasso: a linear model that leaves columns out."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hpo_service.catalog.family import Family, Hyperparameters
from hpo_service.protocol import FloatRange


class LassoHyperparameters(Hyperparameters):
    """Hyperparameters of scikit-learn's `Lasso`, on targets of standard deviation 1.

    So one `alpha` means the same for targets in any unit; from 1 on no column is left.
    """

    alpha: Annotated[float, Field(gt=0, le=1e3, description="Strength of the L1 penalty.")] = 0.01
    max_iter: Annotated[
        int, Field(ge=1, le=1_000_000, description="Passes over the columns, at most.")
    ] = 1000


LASSO = Family(
    name="lasso",
    title="Lasso",
    description="Linear regression of scikit-learn with the L1 penalty (Tibshirani 1996).",
    tasks=("regression",),
    hyperparameters=LassoHyperparameters,
    network=False,
    baseline=True,
    default_space={"alpha": FloatRange(type="float", low=1e-4, high=1.0, log=True)},
)
