"""The one curve of a trial: the mean over all its folds and repeats, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hpo_service import protocol

# The recorded metric of the rows set aside for early stopping.
INNER = "early_stopping"


@dataclass(frozen=True)
class Point:
    """One finished epoch. `folds`: for each optimised metric the values in the order
    (repeat, fold); `values` their means, or of pooled metrics that of all their rows together;
    `metrics` the same of what is only recorded; `watched`
    what early stopping watches: the first value, or that of rows set aside for it; `train_folds`
    the first metric of rows that each fold trained on.
    """

    step: int
    values: list[float]
    folds: list[list[float]]
    metrics: dict[str, float]
    watched: float
    train_folds: list[float] = field(default_factory=list)

    @property
    def finite(self) -> bool:
        return all(math.isfinite(value) for value in self.values)


def point(
    step: int,
    scores: dict[str, list[float]],
    optimised: Sequence[str],
    train_loss: Sequence[float] | None = None,
    inner: Sequence[float] | None = None,
    pooled: Mapping[str, float] | None = None,
    shown: Sequence[float] | None = None,
) -> Point:
    """The point of all folds' `scores` by metric; every metric not optimised is recorded.

    `pooled`: the values that are not the means of the folds.
    """
    means = {name: _mean(folds) for name, folds in scores.items()} | dict(pooled or {})
    metrics = {name: mean for name, mean in means.items() if name not in optimised}
    if train_loss is not None:
        metrics["train_loss"] = _mean(train_loss)
    if shown is not None:
        metrics[f"train_{optimised[0]}"] = _mean(shown)
    if inner is not None:
        metrics[INNER] = _mean(inner)
    folds = [scores[name] for name in optimised]
    values = [means[name] for name in optimised]
    watched = metrics.get(INNER, values[0])
    return Point(step, values, folds, metrics, watched, list(shown or []))


class Curve:
    """The points so far; early stopping watches the mean of the first optimised metric.

    `patience`: epochs without a better mean after which to stop, 0 for never. With it the epoch
    that scores, e*, is the best one, the same for all folds: a fold that kept its own best epoch
    would make the score too high.
    """

    def __init__(self, direction: protocol.Direction, epochs: int, patience: int) -> None:
        self.points: list[Point] = []
        self.direction = direction
        self._sign = 1.0 if direction == "maximize" else -1.0
        self._epochs, self._patience = epochs, patience
        self._best = 0

    def add(self, found: Point) -> None:
        self.points.append(found)
        if self._sign * found.watched > self._sign * self.points[self._best].watched:
            self._best = len(self.points) - 1

    @property
    def ended(self) -> bool:
        """Whether no further epoch is to be trained."""
        waited = len(self.points) - 1 - self._best
        return len(self.points) >= self._epochs or (0 < self._patience <= waited)

    @property
    def scores_by_newest(self) -> bool:
        """Whether the newest point may be the one that scores in the end."""
        newest = len(self.points) - 1
        return self._best == newest if self._patience else self.ended

    @property
    def chosen(self) -> Point:
        """The point at e*."""
        return self.points[self._best if self._patience else -1]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan
