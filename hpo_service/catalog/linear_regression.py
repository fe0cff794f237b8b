"""Linear regression: least squares, nothing to set but the signs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hpo_service.catalog.family import Family, Hyperparameters
from hpo_service.protocol import Choice


class LinearRegressionHyperparameters(Hyperparameters):
    """Hyperparameters of scikit-learn's `LinearRegression`."""

    positive: Annotated[bool, Field(description="No coefficient may be below 0.")] = False
    fit_intercept: Annotated[bool, Field(description="Whether there is a constant term.")] = True


LINEAR_REGRESSION = Family(
    name="linear_regression",
    title="Linear regression",
    description="Ordinary least squares of scikit-learn on standardised inputs.",
    tasks=("regression",),
    hyperparameters=LinearRegressionHyperparameters,
    network=False,
    baseline=True,
    default_space={"positive": Choice(type="categorical", choices=[False, True])},
)
