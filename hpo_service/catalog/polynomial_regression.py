"""Polynomial regression: a linear model of products and powers of the columns."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hpo_service.catalog.family import Family, Hyperparameters
from hpo_service.protocol import Choice, FloatRange, IntRange


class PolynomialRegressionHyperparameters(Hyperparameters):
    """Hyperparameters of scikit-learn's `PolynomialFeatures` and of the `Ridge` after it."""

    degree: Annotated[int, Field(ge=1, le=10, description="Factors of a term, at most.")] = 2
    interaction_only: Annotated[
        bool, Field(description="Products of different columns only, no powers.")
    ] = False
    alpha: Annotated[
        float, Field(ge=0, le=1e10, description="Strength of the L2 penalty; 0: least squares.")
    ] = 1.0


POLYNOMIAL_REGRESSION = Family(
    name="polynomial_regression",
    title="Polynomial regression",
    description="Ridge regression of scikit-learn on standardised powers and products of columns.",
    tasks=("regression",),
    hyperparameters=PolynomialRegressionHyperparameters,
    network=False,
    default_space={
        "degree": IntRange(type="int", low=1, high=3),
        "interaction_only": Choice(type="categorical", choices=[False, True]),
        "alpha": FloatRange(type="float", low=1e-4, high=1e4, log=True),
    },
)
