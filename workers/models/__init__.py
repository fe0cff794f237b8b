"""The model families: for each declaration of `hpo_service.catalog` the code that computes it."""

from __future__ import annotations

from workers.models import gan, logistic_regression, mlp, ridge
from workers.models.base import EstimatorModel, Model, NetworkModel

__all__ = ["MODELS", "EstimatorModel", "Model", "NetworkModel"]

MODELS: dict[str, Model] = {
    "mlp": mlp.MODEL,
    "logistic_regression": logistic_regression.MODEL,
    "ridge": ridge.MODEL,
    "gan": gan.MODEL,
}
