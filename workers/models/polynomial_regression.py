"""Polynomial regression: scikit-learn's ridge or least squares on powers and products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from hpo_service import errors
from hpo_service.catalog.polynomial_regression import PolynomialRegressionHyperparameters
from workers.models import estimators, linear
from workers.models.base import Arrays
from workers.models.estimators import Rows
from workers.models.linear import Linear

MOST_TERMS = 20_000
MOST_NUMBERS = 5 * 10**7  # terms of all rows: 0.4 GB


@dataclass(frozen=True)
class Polynomial:
    """See `base.Fitted`; `model` is linear in the terms."""

    terms: PolynomialFeatures
    model: Linear

    def predict(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.model.predict(self.terms.transform(inputs))

    def arrays(self) -> Arrays:
        return self.model.arrays() | {"columns": np.array([self.terms.n_features_in_])}


def learn(settings: PolynomialRegressionHyperparameters, rows: Rows) -> Polynomial:
    """Raises `InvalidRequest` where the terms are too many.

    Terms are standardised before they are penalised, which is undone in the coefficients.
    """
    terms = _terms(settings, rows.inputs.shape[1])
    _check(settings, terms, rows.inputs)
    scaler = StandardScaler()
    inputs = scaler.fit_transform(terms.transform(rows.inputs))
    regressor = Ridge(alpha=settings.alpha) if settings.alpha else LinearRegression()
    found = linear.fit(regressor, Rows(inputs, rows.target, rows.weights, rows.seed))
    coef = found.coef / scaler.scale_
    return Polynomial(terms, Linear(coef, found.intercept - coef @ scaler.mean_))


def recall(settings: PolynomialRegressionHyperparameters, arrays: Arrays) -> Polynomial:
    """The model of its arrays."""
    return Polynomial(_terms(settings, int(arrays["columns"][0])), linear.recall(settings, arrays))


def _terms(settings: PolynomialRegressionHyperparameters, columns: int) -> PolynomialFeatures:
    terms = PolynomialFeatures(
        settings.degree, interaction_only=settings.interaction_only, include_bias=False
    )
    return terms.fit(np.zeros((1, columns)))


def _check(
    settings: PolynomialRegressionHyperparameters,
    terms: PolynomialFeatures,
    inputs: NDArray[np.float64],
) -> None:
    rows, columns = inputs.shape
    most = min(MOST_TERMS, MOST_NUMBERS // rows)
    if terms.n_output_features_ > most:
        raise errors.invalid(
            "params.degree",
            f"{settings.degree} makes {terms.n_output_features_:,} terms of {columns:,} columns, "
            f"and {most:,} is the most for {rows:,} rows: take a lower degree",
        )


MODEL = estimators.family(learn, recall)
