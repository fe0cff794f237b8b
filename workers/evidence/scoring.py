"""A metric of many weighings of the same rows, and of each row by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers import metrics
from workers.evidence.units import BATCH_VALUES, Floats

# Metrics that are a mean over rows.
MEANS = frozenset({"accuracy", "log_loss", "brier", "mae", "mape", "poisson_deviance"})
# Metrics of the likeliest class alone.
OF_CLASSES = frozenset({"accuracy", "balanced_accuracy", "f1_macro", "f1_weighted", "mcc"})


def weighed(metric: str, prediction: Tensor, target: Tensor, weights: NDArray[Any]) -> Floats:
    """The metric under each weighing, (weighings,), of `weights` (weighings, rows).

    `prediction` (rows, outputs), `target` (rows,) or (rows, targets).
    """
    if metric in OF_CLASSES and len(target) > prediction.shape[1] ** 2:
        prediction, target, weights = _cells(prediction, target, weights)
    found = np.empty(len(weights))
    batch = max(1, BATCH_VALUES // prediction.numel())
    for first in range(0, len(weights), batch):
        some = torch.from_numpy(weights[first : first + batch].astype(np.float64))
        found[first : first + batch] = _measure(
            metric,
            prediction.expand(len(some), *prediction.shape),
            target.expand(len(some), *target.shape),
            some,
        )
    return found


def by_row(metric: str, prediction: Tensor, target: Tensor) -> Floats:
    """What each row adds to a metric of `MEANS`, (rows,); any leading dimensions are kept:
    `prediction` (..., rows, outputs).
    """
    flat = prediction.reshape(-1, 1, prediction.shape[-1])
    leading = prediction.shape[:-1]
    shape = (*leading, *target.shape[1:])
    each = target.expand(shape).reshape(len(flat), 1, *target.shape[1:])
    found = _measure(metric, flat, each, torch.ones(len(flat), 1, dtype=torch.float64))
    return found.reshape(leading)


def _cells(
    prediction: Tensor, target: Tensor, weights: NDArray[Any]
) -> tuple[Tensor, Tensor, Floats]:
    """One row for each pair of predicted and true class, with the weight of all such rows: the
    same confusion matrices from a matrix product.
    """
    classes = prediction.shape[1]
    cell = (prediction.argmax(1) * classes + target).numpy()
    one_hot = np.zeros((len(cell), classes**2))
    one_hot[np.arange(len(cell)), cell] = 1
    likeliest = torch.eye(classes, dtype=torch.float64).repeat_interleave(classes, 0)
    return likeliest, torch.arange(classes).repeat(classes), weights @ one_hot


def _measure(metric: str, prediction: Tensor, target: Tensor, weight: Tensor) -> Floats:
    found: Floats = metrics.measure([metric], prediction, target, weight)[metric].numpy()
    return found
