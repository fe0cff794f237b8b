"""What an epoch of a trial came to: of several restarts the mean, the best or the ensemble."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hpo_service.catalog.family import RestartScore

Measured = dict[str, float]


@dataclass(frozen=True)
class Scores:
    """One epoch of one trial, values in the order (repeat, fold).

    `inner`: what early stopping watches, where that is not the first metric of the scoring rows.
    """

    folds: dict[str, list[float]]
    train_loss: list[float] | None = None
    inner: list[float] | None = None


def combine(
    how: RestartScore,
    scores: Sequence[Sequence[Measured]],
    losses: Sequence[Sequence[float]],
    inner: Sequence[Sequence[Measured]] | None,
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
    return Scores(folds, [_mean(part) for part in losses], watched)


def _one(how: RestartScore, values: Sequence[float], losses: Sequence[float]) -> float:
    if how == "best":
        finite = [loss if math.isfinite(loss) else math.inf for loss in losses]
        return values[finite.index(min(finite))]
    return _mean(values)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan
