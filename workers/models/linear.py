"""Linear models of numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from workers.models import estimators
from workers.models.base import Arrays, EstimatorModel


@dataclass(frozen=True)
class Linear:
    """See `base.Fitted`; `coef` (targets, columns), `intercept` (targets,)."""

    coef: NDArray[np.float64]
    intercept: NDArray[np.float64]

    def predict(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        return inputs @ self.coef.T + self.intercept

    def arrays(self) -> Arrays:
        return {"coef": self.coef, "intercept": self.intercept}


def recall(settings: Any, arrays: Arrays) -> Linear:
    """The model of its arrays."""
    return Linear(arrays["coef"], arrays["intercept"])


def fit(regressor: Any, rows: estimators.Rows) -> Linear:
    """Fit one of scikit-learn's to all targets."""
    with estimators.converging():
        regressor.fit(rows.inputs, rows.target, sample_weight=rows.weights)
    targets = rows.target.shape[1]
    intercept = np.broadcast_to(np.ravel(regressor.intercept_), targets)
    return Linear(np.reshape(regressor.coef_, (targets, -1)), intercept)


def fit_scaled(regressor: Any, rows: estimators.Rows) -> Linear:
    """Fit to targets of mean 0 and standard deviation 1, for penalties that depend on the unit."""
    scaler = StandardScaler().fit(rows.target)
    scaled = estimators.Rows(rows.inputs, scaler.transform(rows.target), rows.weights, rows.seed)
    found = fit(regressor, scaled)
    return Linear(
        found.coef * scaler.scale_[:, None], found.intercept * scaler.scale_ + scaler.mean_
    )


def family(learn: Callable[[Any, estimators.Rows], Linear]) -> EstimatorModel:
    """A family of linear models."""
    return estimators.family(learn, recall)
