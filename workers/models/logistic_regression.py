"""Logistic regression: scikit-learn's, multinomial where there are more than two classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from hpo_service.catalog.logistic_regression import LogisticRegressionHyperparameters
from workers.models import estimators
from workers.models.base import Arrays
from workers.models.estimators import Rows
from workers.models.linear import Linear


@dataclass(frozen=True)
class Logistic:
    """See `base.Fitted`; `logits` of each class, of two classes of the second alone."""

    logits: Linear

    def predict(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        return estimators.probabilities(self.logits.predict(inputs))

    def arrays(self) -> Arrays:
        return self.logits.arrays()


def learn(settings: LogisticRegressionHyperparameters, rows: Rows) -> Logistic:
    """Fit on class codes."""
    model = LogisticRegression(C=settings.C, max_iter=settings.max_iter)
    with estimators.converging():
        model.fit(rows.inputs, rows.target, sample_weight=rows.weights)
    return Logistic(Linear(model.coef_, model.intercept_))


def recall(settings: LogisticRegressionHyperparameters, arrays: Arrays) -> Logistic:
    """The model of its arrays."""
    return Logistic(Linear(arrays["coef"], arrays["intercept"]))


MODEL = estimators.family(learn, recall)
