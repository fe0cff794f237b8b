"""Ensembles of completed settings from their out-of-fold predictions.

Candidates are the average of all members and a greedy selection with replacement (Caruana et al.
2004), bagged over members. Weights chosen on the rows that score them would score too well: each
fold is scored with weights chosen on the other folds, and so is the single best setting, chosen on
the other folds, too. Whoever wins that comparison is taken, a single setting unless beaten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpo_service.protocol import Direction
from workers import metrics
from workers.evidence.units import Floats

# Of the members each bag holds half, as Caruana et al. suggest.
BAGS, BAG_SHARE = 20, 0.5
ROUNDS = 25
# A member with less would cost a training for next to nothing.
LEAST_WEIGHT = 0.02

# Weights (members,) chosen on the rows whose places are given.
Chooser = Callable[[NDArray[Any]], Floats]


@dataclass(frozen=True)
class Blend:
    """`kind`: single | average | greedy; `weights` (members,) chosen on all rows, summing to 1;
    `score`: the mean over folds, or of all rows pooled, of weights chosen on the other folds;
    `folds`: (folds,).
    """

    kind: str
    weights: Floats
    score: float
    folds: Floats


def blend(
    metric: str,
    direction: Direction,
    prediction: Tensor,
    target: Tensor,
    fold: NDArray[Any],
    *,
    weight: NDArray[Any] | None = None,
    pooled: bool = False,
    seed: int = 0,
) -> tuple[Blend, list[Blend]]:
    """What to use, and all that was compared: the single best setting, the average, the greedy one.

    `prediction` (members, rows, outputs) float64, out of fold, of the best k completed settings;
    `target` (rows,) or (rows, targets); `fold` (rows,): the fold that scored each row, of one
    repeat. `weight` (rows,). `pooled`: score the rows of all folds together, as where folds are too
    small for the metric. Of equals the simpler, first in that order, is used.
    """
    sign = 1.0 if direction == "maximize" else -1.0
    counted = torch.ones(len(target), dtype=torch.float64)
    if weight is not None:
        counted = torch.from_numpy(np.asarray(weight, dtype=np.float64))
    rows = _Rows(metric, sign, prediction, target, counted)
    found = [
        _nested(rows, kind, choose, fold, pooled)
        for kind, choose in (
            ("single", rows.single),
            ("average", rows.average),
            ("greedy", lambda some: rows.greedy(some, np.random.default_rng(seed))),
        )
    ]
    return max(found, key=lambda each: sign * each.score), found


def together(found: Sequence[Blend], direction: Direction) -> Blend:
    """The best of the candidates that have several members; the average has."""
    sign = 1.0 if direction == "maximize" else -1.0
    several = [each for each in found if np.count_nonzero(each.weights) > 1]
    return max(several, key=lambda each: sign * each.score)


def mixed(prediction: Tensor, weights: Floats) -> Tensor:
    """The weighted mean of the members' predictions, (rows, outputs)."""
    return torch.einsum("m,mro->ro", torch.from_numpy(weights), prediction)


@dataclass(frozen=True)
class _Rows:
    metric: str
    sign: float
    prediction: Tensor
    target: Tensor
    counted: Tensor

    def single(self, some: NDArray[Any]) -> Floats:
        """All weight on the best member of some rows."""
        return _shares(np.array([self._goodness(self.prediction, some).argmax()]), self._members)

    def average(self, some: NDArray[Any]) -> Floats:
        """The same weight for all."""
        found: Floats = np.full(self._members, 1 / self._members)
        return found

    def greedy(self, some: NDArray[Any], rng: np.random.Generator) -> Floats:
        """Mean over bags of members of the greedy selection among them, without small weights."""
        size = max(1, round(self._members * BAG_SHARE))
        bags = [rng.choice(self._members, size, replace=False) for _ in range(BAGS)]
        found: Floats = np.mean([self._selected(np.sort(bag), some) for bag in bags], axis=0)
        kept = np.where(found < LEAST_WEIGHT, 0.0, found)
        shares: Floats = kept / kept.sum()
        return shares

    def score(self, said: Tensor, some: NDArray[Any]) -> float:
        """The metric of one prediction, (rows, outputs), on some rows."""
        return self.sign * float(self._goodness(said[None], some)[0])

    @property
    def _members(self) -> int:
        return len(self.prediction)

    def _selected(self, bag: NDArray[np.int64], some: NDArray[Any]) -> Floats:
        """Add, again and again, the member that makes the sum of those taken best; the best such
        sum counts.
        """
        members = self.prediction[bag]
        total = torch.zeros_like(members[0])
        taken: list[int] = []
        best, length = -np.inf, 0
        for taking in range(1, ROUNDS + 1):
            goodness = self._goodness((total + members) / taking, some)
            taken.append(int(goodness.argmax()))
            total = total + members[taken[-1]]
            if goodness.max() > best:
                best, length = goodness.max(), taking
        return _shares(bag[taken[: max(length, 1)]], self._members)

    def _goodness(self, predictions: Tensor, some: NDArray[Any]) -> Floats:
        """Higher is better, (candidates,), of `predictions` (candidates, rows, outputs)."""
        rows = torch.from_numpy(some)
        target, weight = self.target[rows], self.counted[rows]
        lanes = len(predictions)
        scores = metrics.measure(
            [self.metric],
            predictions[:, rows],
            target.expand(lanes, *target.shape),
            weight.expand(lanes, *weight.shape),
        )[self.metric]
        signed = self.sign * scores
        found: Floats = signed.masked_fill(signed.isnan(), -torch.inf).numpy()
        return found


def _nested(rows: _Rows, kind: str, choose: Chooser, fold: NDArray[Any], pooled: bool) -> Blend:
    """Each fold scored with weights chosen on the others."""
    said, scores = torch.empty_like(rows.prediction[0]), []
    for each in np.unique(fold):
        inside, outside = np.flatnonzero(fold == each), np.flatnonzero(fold != each)
        weights = choose(outside)
        said[inside] = mixed(rows.prediction[:, inside], weights)
        scores.append(rows.score(said, inside))
    everything = np.arange(len(fold))
    score = rows.score(said, everything) if pooled else float(np.mean(scores))
    return Blend(kind, choose(everything), score, np.array(scores))


def _shares(taken: NDArray[Any], members: int) -> Floats:
    return np.bincount(taken, minlength=members) / len(taken)
