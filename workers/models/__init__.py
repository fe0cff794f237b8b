"""The model families: for each declaration of `hpo_service.catalog` the code that computes it."""

from __future__ import annotations

from pathlib import Path

from workers.models import (
    capsnet,
    cnn,
    gan,
    loading,
    logistic_regression,
    mlp,
    perceptron,
    ridge,
    rnn,
)
from workers.models.base import EstimatorModel, Model, NetworkModel
from workers.models.loading import Loaded

__all__ = ["MODELS", "EstimatorModel", "Loaded", "Model", "NetworkModel", "load"]

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


def load(path: Path) -> Loaded:
    """The stored model in a file, such as `hpo study files STUDY --save model` writes; see
    `loading.load` for its errors.
    """
    return loading.load(path, MODELS)
