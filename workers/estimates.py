"""Scores on rows that were never searched on, with 95 % intervals.

Accuracy: Wilson (1927), right also near 1 and for few rows. Other metrics: bias-corrected and
accelerated bootstrap over rows (Efron 1987).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from hpo_service import protocol
from workers import metrics

LEVEL = 0.95
RESAMPLES = 2000
# The acceleration leaves out each row once, so its cost grows with the square of the rows.
MAX_ROWS_BCA = 3000
BATCH_VALUES = 4_000_000

Method = Literal["BCa", "percentile"]
Interval = tuple[float | None, float | None]


def estimates(
    name: str, names: Iterable[str], prediction: Tensor, target: Tensor
) -> list[protocol.Estimate]:
    """One estimate for each metric named; a metric that is not finite is left out.

    `prediction` (rows, classes) or (rows, targets) float64, `target` (rows,) or (rows, targets).
    """
    found = []
    for metric in names:
        value = float(_score(metric, prediction[None], target[None])[0])
        if math.isfinite(value):
            (low, high), method = _interval(metric, prediction, target)
            found.append(
                protocol.Estimate(
                    name=name,
                    metric=metric,
                    value=value,
                    low=low,
                    high=high,
                    level=LEVEL,
                    method=method,
                    rows=len(target),
                )
            )
    return found


def _interval(metric: str, prediction: Tensor, target: Tensor) -> tuple[Interval, str]:
    if metric == "accuracy":
        right = int((prediction.argmax(1) == target).sum())
        found = stats.binomtest(right, len(target)).proportion_ci(LEVEL, method="wilson")
        return _finite(found.low, found.high), "Wilson"
    method: Method = "BCa" if len(target) <= MAX_ROWS_BCA else "percentile"
    return _bootstrap(metric, prediction, target, method), f"{method} bootstrap over rows"


def _bootstrap(metric: str, prediction: Tensor, target: Tensor, method: Method) -> Interval:
    rows = len(target)
    if rows < 2:
        return None, None

    def score(resamples: NDArray[np.int64], axis: int) -> NDArray[np.float64]:
        drawn = torch.from_numpy(np.atleast_2d(np.moveaxis(resamples, axis, -1)))
        scores: NDArray[np.float64] = _score(metric, prediction[drawn], target[drawn]).numpy()
        return scores.reshape(np.moveaxis(resamples, axis, -1).shape[:-1])

    with warnings.catch_warnings():
        # All rows scored alike: there is no interval, which is said by leaving it out.
        warnings.simplefilter("ignore")
        found = stats.bootstrap(
            (np.arange(rows),),
            score,
            n_resamples=RESAMPLES,
            batch=max(1, BATCH_VALUES // prediction.numel()),
            vectorized=True,
            confidence_level=LEVEL,
            method=method,
            rng=np.random.default_rng(0),
        ).confidence_interval
    return _finite(found.low, found.high)


def _score(metric: str, prediction: Tensor, target: Tensor) -> Tensor:
    mask = torch.ones(prediction.shape[:2], dtype=torch.float64)
    return metrics.measure([metric], prediction, target, mask)[metric]


def _finite(low: float, high: float) -> Interval:
    if math.isfinite(low) and math.isfinite(high):
        return float(low), float(high)
    return None, None
