"""k nearest neighbours: scikit-learn's; the arrays are the training rows themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsRegressor

from hpo_service.catalog.k_nearest_neighbors import KNearestNeighborsHyperparameters
from workers.models import estimators
from workers.models.base import Arrays
from workers.models.estimators import Rows


@dataclass(frozen=True)
class Neighbors:
    """See `base.Fitted`; `target` (rows, outputs)."""

    inputs: NDArray[np.float64]
    target: NDArray[np.float64]
    model: KNeighborsRegressor

    def predict(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self.model.predict(inputs)
        return found

    def arrays(self) -> Arrays:
        return {"inputs": self.inputs, "target": self.target}


def learn(settings: KNearestNeighborsHyperparameters, rows: Rows) -> Neighbors:
    """Keep the rows. Weights of rows are ignored: there is no place for them in scikit-learn's.

    The share of a class among the neighbours is the mean of its 0 and 1.
    """
    target = np.eye(rows.target.max() + 1)[rows.target] if rows.classified else rows.target
    return recall(settings, {"inputs": rows.inputs, "target": target})


def recall(settings: KNearestNeighborsHyperparameters, arrays: Arrays) -> Neighbors:
    """The model of its arrays."""
    inputs, target = arrays["inputs"], arrays["target"]
    model = KNeighborsRegressor(
        n_neighbors=min(settings.n_neighbors, len(inputs)),
        weights=settings.weights,
        p=settings.p,
        n_jobs=1,
    )
    return Neighbors(inputs, target, model.fit(inputs, target))


MODEL = estimators.family(learn, recall)
