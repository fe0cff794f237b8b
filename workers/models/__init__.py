"""The model families: for each declaration of `hpo_service.catalog` the code that computes it."""

from __future__ import annotations

from pathlib import Path

from workers.models import (
    capsnet,
    cnn,
    decision_tree,
    elastic_net,
    gan,
    gradient_boosting,
    k_nearest_neighbors,
    lasso,
    linear_regression,
    loading,
    logistic_regression,
    mlp,
    naive_bayes,
    perceptron,
    polynomial_regression,
    random_forest,
    ridge,
    rnn,
    stepwise_regression,
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
    "naive_bayes": naive_bayes.MODEL,
    "decision_tree": decision_tree.MODEL,
    "random_forest": random_forest.MODEL,
    "gradient_boosting": gradient_boosting.MODEL,
    "k_nearest_neighbors": k_nearest_neighbors.MODEL,
    "linear_regression": linear_regression.MODEL,
    "polynomial_regression": polynomial_regression.MODEL,
    "stepwise_regression": stepwise_regression.MODEL,
    "ridge": ridge.MODEL,
    "lasso": lasso.MODEL,
    "elastic_net": elastic_net.MODEL,
}


def load(path: Path) -> Loaded:
    """The stored model in a file, such as `hpo study files STUDY --save model` writes; see
    `loading.load` for its errors.
    """
    return loading.load(path, MODELS)
