"""Logistic regression: scikit-learn's."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from hpo_service.catalog.logistic_regression import LogisticRegressionHyperparameters
from workers.models.base import Arrays, EstimatorModel


class FittedLogisticRegression:
    """See `base.Fitted`; a class that the training rows do not have gets probability 0."""

    def __init__(self, model: LogisticRegression, classes: int) -> None:
        self._model, self._classes = model, classes

    def predict(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        found = np.zeros((len(inputs), self._classes))
        found[:, self._model.classes_] = self._model.predict_proba(inputs)
        return found

    def arrays(self) -> Arrays:
        model = self._model
        return {"coef": model.coef_, "intercept": model.intercept_, "classes": model.classes_}


def fit(
    settings: LogisticRegressionHyperparameters,
    inputs: NDArray[np.float64],
    target: NDArray[Any],
    outputs: int,
) -> FittedLogisticRegression:
    """Fit on class codes (rows,)."""
    model = LogisticRegression(C=settings.C, max_iter=settings.max_iter)
    with warnings.catch_warnings():
        # `max_iter` is a hyperparameter: a solver that was stopped by it did what was asked.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(inputs, target)
    return FittedLogisticRegression(model, outputs)


def restore(
    settings: LogisticRegressionHyperparameters, arrays: Arrays, outputs: int
) -> FittedLogisticRegression:
    """What gave these arrays."""
    model = LogisticRegression(C=settings.C, max_iter=settings.max_iter)
    model.coef_, model.intercept_ = arrays["coef"], arrays["intercept"]
    model.classes_, model.n_features_in_ = arrays["classes"], arrays["coef"].shape[1]
    return FittedLogisticRegression(model, outputs)


MODEL = EstimatorModel(fit=fit, restore=restore)
