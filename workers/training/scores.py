"""What an epoch of a trial came to: of several restarts the mean, the best or the ensemble."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hpo_service.catalog.family import RestartScore

Measured = dict[str, float]


@dataclass(frozen=True)
class Scores:
    """One epoch of one trial, values in the order (repeat, fold).

    `inner`: what early stopping watches, where that is not the first metric of the scoring rows;
    `shown`: the first metric on rows that were trained on, by the networks of the finished epoch;
    `pooled`: the value of those metrics that is not the mean of the folds.
    """

    folds: dict[str, list[float]]
    train_loss: list[float] | None = None
    inner: list[float] | None = None
    shown: list[float] | None = None
    pooled: dict[str, float] = field(default_factory=dict)


def combine(
    how: RestartScore,
    scores: Sequence[Sequence[Measured]],
    losses: Sequence[Sequence[float]],
    inner: Sequence[Sequence[Measured]] | None,
    shown: Sequence[Sequence[float]] | None = None,
) -> Scores:
    """One value for each part out of [part][restart].

    `best` takes the restart with the lowest training loss: chosen by the rows that score it, it
    would score too high.
    """
    names = scores[0][0]
    folds = {
        name: [
            _one(how, [measured[name] for measured in restarts], part)
            for restarts, part in zip(scores, losses, strict=True)
        ]
        for name in names
    }
    watched = None
    if inner is not None:
        values = [[next(iter(measured.values())) for measured in part] for part in inner]
        watched = [_one(how, v, part) for v, part in zip(values, losses, strict=True)]
    trained = None if shown is None else [_mean(part) for part in shown]
    return Scores(folds, [_mean(part) for part in losses], watched, trained)


def predictions(
    how: RestartScore, found: Sequence[Sequence[Tensor]], losses: Sequence[Sequence[float]]
) -> Tensor:
    """What is scored of the predictions by [part][restart], (sets, parts, rows, outputs): those of
    each restart, of the best of each part, or the ensemble's.
    """
    every = torch.stack([torch.stack(list(restarts)) for restarts in found])
    if how == "best":
        kept = [lowest(part) for part in losses]
        return every[range(len(kept)), kept].unsqueeze(0)
    return every.mean(1).unsqueeze(0) if how == "ensemble" else every.transpose(0, 1)


def lowest(losses: Sequence[float]) -> int:
    """The restart with the lowest training loss."""
    finite = [loss if math.isfinite(loss) else math.inf for loss in losses]
    return finite.index(min(finite))


def _one(how: RestartScore, values: Sequence[float], losses: Sequence[float]) -> float:
    return values[lowest(losses)] if how == "best" else _mean(values)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan
