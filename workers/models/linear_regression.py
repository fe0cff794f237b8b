"""Linear regression: scikit-learn's."""

from __future__ import annotations

from sklearn.linear_model import LinearRegression

from hpo_service.catalog.linear_regression import LinearRegressionHyperparameters
from workers.models import linear
from workers.models.estimators import Rows


def learn(settings: LinearRegressionHyperparameters, rows: Rows) -> linear.Linear:
    """Least squares."""
    made = LinearRegression(positive=settings.positive, fit_intercept=settings.fit_intercept)
    return linear.fit(made, rows)


MODEL = linear.family(learn)
