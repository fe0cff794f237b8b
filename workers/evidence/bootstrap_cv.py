"""What the chosen of many settings scores, from the predictions that chose it.

Bias-corrected bootstrap cross-validation (Tsamardinos, Greasidou and Borboudakis 2018). The best
cross-validated score is too good because it was the best of many; so the choice itself is
repeated: rows are drawn with replacement, the best setting on them is scored on the rows left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hpo_service.protocol import Direction
from workers.evidence import scoring
from workers.evidence.units import Floats, draws, units

TIMES = 1000
TAILS = (0.025, 0.975)


@dataclass(frozen=True)
class BootstrapCv:
    """The estimate, the ends of its 95 % percentile interval, the plain best cross-validated score
    and whose it is, and the share of draws in which each setting was chosen, (settings,).

    NaN where too few draws could be scored.
    """

    value: float
    low: float
    high: float
    best: float
    setting: int
    chosen: Floats


def bootstrap_cv(
    metric: str,
    direction: Direction,
    prediction: Tensor,
    target: Tensor,
    *,
    group: NDArray[Any] | None = None,
    ordered: bool = False,
    weight: NDArray[Any] | None = None,
    times: int = TIMES,
    seed: int = 0,
) -> BootstrapCv:
    """The estimate from out-of-fold predictions of all completed settings.

    `prediction` (settings, repeats, rows, outputs) float64: the metric is averaged over repeats;
    `target` (rows,) or (rows, targets). Of equally good settings the first is taken. Whole groups
    are drawn where `group` (rows,) is given, moving blocks in time order. `weight` (rows,).
    """
    sign = 1.0 if direction == "maximize" else -1.0
    unit = units(len(target), group, ordered)
    whole = np.ones((1, len(target)))
    scores = _Scores(metric, prediction, target, weight)
    setting = int(_best(sign * scores.all(whole))[0])
    picks, left = [], []
    in_time = ordered and group is None
    for counts in draws(unit, times, np.random.default_rng(seed), ordered=in_time):
        picks.append(_best(sign * scores.all(counts)))
        left.append(scores.of(picks[-1], (counts == 0).astype(np.float64)))
    chosen, outside = np.concatenate(picks), np.concatenate(left)
    outside = outside[np.isfinite(outside)]
    enough = len(outside) >= times / 2
    low, high = np.quantile(outside, TAILS) if enough else (np.nan, np.nan)
    return BootstrapCv(
        value=float(outside.mean()) if enough else np.nan,
        low=float(low),
        high=float(high),
        best=float(scores.of(np.array([setting]), whole)[0]),
        setting=setting,
        chosen=np.bincount(chosen, minlength=len(prediction)) / times,
    )


class _Scores:
    """The metric of settings under weighings of the rows; a mean over rows as a matrix product."""

    def __init__(
        self, metric: str, prediction: Tensor, target: Tensor, weight: NDArray[Any] | None
    ) -> None:
        self._metric, self._prediction, self._target = metric, prediction, target
        self._weight = np.ones(len(target)) if weight is None else weight
        self._losses: Floats | None = None
        if metric in scoring.MEANS:
            by_row = [scoring.by_row(metric, each, target).mean(0) for each in prediction]
            self._losses = np.stack(by_row)

    def all(self, counts: NDArray[Any]) -> Floats:
        """(weighings, settings)."""
        weights = counts * self._weight
        if self._losses is not None:
            found: Floats = weights @ self._losses.T / _total(weights)[:, None]
            return found
        return np.stack([self._pooled(each, weights) for each in self._prediction], axis=1)

    def of(self, setting: NDArray[Any], counts: NDArray[Any]) -> Floats:
        """(weighings,), each of its own setting; NaN where no row is left."""
        weights = counts * self._weight
        if self._losses is not None:
            found: Floats = (weights * self._losses[setting]).sum(1) / _total(weights)
            return found
        scores = np.empty(len(setting))
        for each in np.unique(setting):
            its = setting == each
            scores[its] = self._pooled(self._prediction[each], weights[its])
        return scores

    def _pooled(self, repeats: Tensor, weights: Floats) -> Floats:
        scores = [scoring.weighed(self._metric, each, self._target, weights) for each in repeats]
        found: Floats = np.mean(scores, axis=0)
        found[weights.sum(1) == 0] = np.nan
        return found


def _total(weights: Floats) -> Floats:
    total: Floats = weights.sum(1)
    return np.where(total > 0, total, np.nan)


def _best(scores: Floats) -> NDArray[np.int64]:
    """The best setting of each weighing; one that cannot be scored is the worst."""
    best: NDArray[np.int64] = np.where(np.isnan(scores), -np.inf, scores).argmax(1)
    return best
