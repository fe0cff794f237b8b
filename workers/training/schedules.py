"""Schedules of the learning rate: a factor for each epoch, one function for each name.

Epochs count from 0; `epochs` is the trial's horizon, the most epochs it may train, and not what it
was stopped at: a refit passes the horizon of the search, so that it repeats the same factors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from hpo_service import protocol
from hpo_service.catalog import NetworkHyperparameters

# Of one_cycle: the share of the horizon that rises, and the factors it starts from and ends at.
RISING, FIRST, LAST = 0.3, 1 / 25, 1e-4


def constant(
    settings: NetworkHyperparameters, epoch: int, epochs: int, drops: Sequence[int]
) -> float:
    """Always 1."""
    return 1.0


def step(settings: NetworkHyperparameters, epoch: int, epochs: int, drops: Sequence[int]) -> float:
    """Times `schedule_factor` after every `schedule_epochs` epochs."""
    return float(settings.schedule_factor ** (epoch // settings.schedule_epochs))


def cosine(
    settings: NetworkHyperparameters, epoch: int, epochs: int, drops: Sequence[int]
) -> float:
    """Down to 0 at the horizon's end (Loshchilov and Hutter 2017, without restarts)."""
    return _anneal(1.0, 0.0, epoch / epochs)


def one_cycle(
    settings: NetworkHyperparameters, epoch: int, epochs: int, drops: Sequence[int]
) -> float:
    """Up from 1/25 to 1 and down to 1/10000, each along a cosine (Smith 2018; as PyTorch's, but
    with the momentum left alone).
    """
    # In PyTorch a horizon of 3 epochs or fewer starts on the way down, one of 1 at its end.
    top, end = max(RISING * epochs - 1, 0.0), epochs - 1
    if epoch <= top:
        return _anneal(FIRST, 1.0, epoch / top if top else 1.0)
    return _anneal(1.0, LAST, (epoch - top) / (end - top))


def warm_up(
    settings: NetworkHyperparameters, epoch: int, epochs: int, drops: Sequence[int]
) -> float:
    """In equal stairs up to 1, which it has after `schedule_epochs` epochs (Goyal et al. 2017)."""
    return float(min(1.0, (epoch + 1) / (settings.schedule_epochs + 1)))


def plateau(
    settings: NetworkHyperparameters, epoch: int, epochs: int, drops: Sequence[int]
) -> float:
    """Times `schedule_factor` at each drop so far; later ones in `drops` do not count yet."""
    return float(settings.schedule_factor ** sum(drop <= epoch for drop in drops))


Schedule = Callable[[NetworkHyperparameters, int, int, Sequence[int]], float]
"""`(settings, epoch, epochs, drops)`: the factor of the learning rate in the epoch of that index,
0 to `epochs` - 1. `settings` are `NetworkHyperparameters`, `drops` what `plateau_drops` gives.
"""

SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "step": step,
    "cosine": cosine,
    "one_cycle": one_cycle,
    "warm_up": warm_up,
    "plateau": plateau,
}


def plateau_drops(
    values: Sequence[float], direction: protocol.Direction, patience: int
) -> list[int]:
    """After how many epochs the rate dropped, given the mean curve's `values`, one an epoch.

    It drops when `patience` epochs in a row, counted from the last drop, were no better than the
    best value so far: `ReduceLROnPlateau` with threshold 0 and patience - 1. A function of the
    curve alone: a resumed trial finds the same drops, and a refit repeats those of its trial.
    """
    sign = 1.0 if direction == "maximize" else -1.0
    drops: list[int] = []
    best, waited = -math.inf, 0
    for done, value in enumerate(values, start=1):
        if sign * value > best:
            best, waited = sign * value, 0
        else:
            waited += 1
        if waited >= patience:
            drops.append(done)
            waited = 0
    return drops


def _anneal(start: float, end: float, share: float) -> float:
    """Half a cosine from `start` to `end`, `share` of the way."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
