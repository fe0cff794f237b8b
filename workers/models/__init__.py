"""The model families: for each declaration of `hpo_service.catalog` the code that computes it."""

from __future__ import annotations

from workers.models import capsnet, cnn, gan, logistic_regression, mlp, perceptron, ridge, rnn
from workers.models.base import EstimatorModel, Model, NetworkModel

__all__ = ["MODELS", "EstimatorModel", "Model", "NetworkModel"]

MODELS: dict[str, Model] = {
    "mlp": mlp.MODEL,
    "perceptron": perceptron.MODEL,
    "cnn": cnn.MODEL,
    "rnn": rnn.MODEL,
    "capsnet": capsnet.MODEL,
    "gan": gan.MODEL,
    "logistic_regression": logistic_regression.MODEL,
    "ridge": ridge.MODEL,
}
