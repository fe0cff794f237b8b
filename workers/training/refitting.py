"""The winner's networks, fitted on all search rows for the epochs that were best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hpo_service import protocol
from workers import generation
from workers.data.parts import Table
from workers.models.base import Arrays, NetworkModel
from workers.training import seeding
from workers.training.lanes import Lane, Lanes
from workers.training.trial import rate_factor, steps_left


@dataclass(frozen=True)
class Networks:
    """The networks to keep, by their arrays, and their (mean) prediction of the scoring rows; or
    the one that makes rows.
    """

    arrays: list[Arrays]
    prediction: NDArray[np.float64]
    generator: generation.Generator | None = None


def fit(
    model: NetworkModel, settings: Any, setting: protocol.ModelSetting, table: Table
) -> Networks:
    """Train as the trial did, with its schedule and the drops of its rate, on a table of one part.

    Of several restarts: all of an ensemble, the one with the lowest training loss where the best
    was scored; where their mean was, one network, which is what the mean says of.
    """
    restarts = 1 if settings.restart_score == "mean" else settings.restarts
    rngs = [seeding.generator(setting.seed, 0, 0, restart) for restart in range(restarts)]
    lanes = Lanes(model, [Lane(settings, 0, rng) for rng in rngs], table)
    losses = torch.zeros(restarts)
    for epoch in range(setting.epochs or 0):
        lanes.scale([_factor(settings, setting, epoch)] * restarts)
        losses = lanes.epoch([steps_left(settings, epoch, table.counts[0])] * restarts)
    kept = [int(losses.argmin())] if settings.restart_score == "best" else list(range(restarts))
    if isinstance(lanes.network, generation.Generator):
        lanes.keep(kept[:1])
        return Networks([lanes.arrays(0)], np.empty((0, 0)), lanes.network)
    return Networks([lanes.arrays(lane) for lane in kept], _predict(lanes, kept, table))


def _factor(settings: Any, setting: protocol.ModelSetting, epoch: int) -> float:
    epochs, drops = setting.notes.get("epochs"), setting.notes.get("drops")
    known = epochs if isinstance(epochs, int) else settings.epochs
    trace = [drop for drop in drops if isinstance(drop, int)] if isinstance(drops, list) else []
    return rate_factor(settings, epoch, known, trace)


def _predict(lanes: Lanes, kept: Sequence[int], table: Table) -> NDArray[np.float64]:
    if not table.valid_inputs.shape[1]:
        return np.empty((0, table.outputs))
    found: NDArray[np.float64] = lanes.predict()[list(kept)].mean(0).cpu().numpy()
    return found
