"""A metric of many weighings of the same rows, and of each row by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpo_service import catalog
from workers import metrics
from workers.evidence.units import BATCH_VALUES, Floats

# Metrics that are a mean over rows.
MEANS = frozenset(name for name, metric in catalog.METRICS.items() if metric.over == "rows")
# Metrics of the likeliest class alone.
OF_CLASSES = frozenset({"accuracy", "balanced_accuracy", "f1_macro", "f1_weighted", "mcc"})


def weighed(metric: str, prediction: Tensor, target: Tensor, weights: NDArray[Any]) -> Floats:
    """The metric under each weighing, (weighings,), of `weights` (weighings, rows).

    `prediction` (rows, outputs), `target` (rows,) or (rows, targets).
    """
    if metric in OF_CLASSES and len(target) > prediction.shape[1] ** 2:
        prediction, target, weights = _cells(prediction, target, weights)
    if metric == "r2" and len(weights) > 1:
        return _explained(prediction, target, weights)
    if metric == "roc_auc" and len(weights) > 1:
        return _areas(prediction.numpy(), target.numpy(), weights)
    return _weighed(metric, prediction, target, weights)


def _weighed(metric: str, prediction: Tensor, target: Tensor, weights: NDArray[Any]) -> Floats:
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


def _explained(prediction: Tensor, target: Tensor, weights: NDArray[Any]) -> Floats:
    """R2 from sums over rows, a matrix product; where the target hardly varies, the slow way."""
    apart = (target - target.mean(0)).numpy()
    squares = (target - prediction).square().numpy()
    rows = weights.sum(1, keepdims=True)
    total = weights @ apart**2 - (weights @ apart) ** 2 / np.maximum(rows, 1e-300)
    known = (total > 1e-9 * (weights @ apart**2)).all(1)
    found = np.empty(len(weights))
    found[known] = (1 - (weights @ squares)[known] / total[known]).mean(1)
    found[~known] = _weighed("r2", prediction, target, weights[~known])
    return found


def _areas(prediction: Floats, target: NDArray[Any], weights: NDArray[Any]) -> Floats:
    """ROC AUC with the rows sorted once for all weighings; NaN where rows are all of one class."""
    classes = range(prediction.shape[1]) if prediction.shape[1] > 2 else (1,)
    areas = np.stack([_area(prediction[:, c], target == c, weights) for c in classes], axis=1)
    known = np.isfinite(areas)
    total = np.where(known, areas, 0.0).sum(1)
    return _ratio(total, known.sum(1))


def _area(score: Floats, positive: NDArray[np.bool_], weights: NDArray[Any]) -> Floats:
    """Of one class, (weighings,): what lies below each of its rows, ties half."""
    order = np.argsort(score, kind="stable")
    ordered, own = score[order], positive[order]
    others = np.zeros((len(weights), len(score) + 1))
    np.cumsum(weights[:, order] * ~own, axis=1, out=others[:, 1:])
    left, right = (np.searchsorted(ordered, ordered[own], side) for side in ("left", "right"))
    counted = weights[:, order[own]]
    won = (counted * (others[:, left] + others[:, right])).sum(1) / 2
    pairs = counted.sum(1) * others[:, -1]
    return _ratio(won, pairs)


def _ratio(above: Floats, below: NDArray[Any]) -> Floats:
    """NaN where `below` is 0."""
    found = np.full(len(above), np.nan)
    np.divide(above, below, out=found, where=below > 0)
    return found


def _measure(metric: str, prediction: Tensor, target: Tensor, weight: Tensor) -> Floats:
    found: Floats = metrics.measure([metric], prediction, target, weight)[metric].numpy()
    return found
