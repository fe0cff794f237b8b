"""Gaussian naive Bayes: scikit-learn's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.naive_bayes import GaussianNB

from hpo_service.catalog.naive_bayes import NaiveBayesHyperparameters
from workers.models import estimators
from workers.models.base import Arrays
from workers.models.estimators import Rows

LEARNT = ("theta_", "var_", "class_prior_")


@dataclass(frozen=True)
class Bayes:
    """See `base.Fitted`."""

    model: GaussianNB

    def predict(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self.model.predict_proba(inputs)
        return found

    def arrays(self) -> Arrays:
        return {name.rstrip("_"): getattr(self.model, name) for name in LEARNT}


def learn(settings: NaiveBayesHyperparameters, rows: Rows) -> Bayes:
    """Mean and variance of each column in each class."""
    model = GaussianNB(var_smoothing=settings.var_smoothing)
    return Bayes(model.fit(rows.inputs, rows.target, sample_weight=rows.weights))


def recall(settings: NaiveBayesHyperparameters, arrays: Arrays) -> Bayes:
    """The model of its arrays."""
    model = GaussianNB()
    learnt = {name: arrays[name.rstrip("_")] for name in LEARNT}
    vars(model).update(learnt, classes_=np.arange(len(arrays["theta"])))
    return Bayes(model)


MODEL = estimators.family(learn, recall)
