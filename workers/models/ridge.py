"""Ridge regression: scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from hpo_service.catalog.ridge import RidgeHyperparameters
from workers.models.base import Arrays, EstimatorModel


class FittedRidge:
    """See `base.Fitted`."""

    def __init__(self, model: Ridge) -> None:
        self._model = model

    def predict(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self._model.predict(inputs)
        return found.reshape(len(inputs), -1)

    def arrays(self) -> Arrays:
        return {"coef": self._model.coef_, "intercept": np.atleast_1d(self._model.intercept_)}


def fit(
    settings: RidgeHyperparameters,
    inputs: NDArray[np.float64],
    target: NDArray[Any],
    outputs: int,
) -> FittedRidge:
    """Fit on numbers (rows, targets)."""
    return FittedRidge(Ridge(alpha=settings.alpha).fit(inputs, target))


def restore(settings: RidgeHyperparameters, arrays: Arrays, outputs: int) -> FittedRidge:
    """What gave these arrays."""
    model = Ridge(alpha=settings.alpha)
    model.coef_, model.intercept_ = arrays["coef"], arrays["intercept"]
    model.n_features_in_ = arrays["coef"].shape[-1]
    return FittedRidge(model)


MODEL = EstimatorModel(fit=fit, restore=restore)
