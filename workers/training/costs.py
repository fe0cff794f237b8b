"""What a setting takes, beside how good it is: metrics that any task may record, or optimise
second.

`training_time`: seconds that training took up to the epoch, all restarts of a fold together, mean
over the folds. `parameters`: trained numbers of what predicts, all networks of an ensemble; of an
estimator the numbers that it stores. `latency`: seconds to predict 1,000 rows, the fastest so far.

Networks that train or predict in one pass share its time by their trained numbers (and rows). All
folds are given the same value.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from workers.training.curve import Point

COSTS = ("training_time", "parameters", "latency")


@dataclass
class Clock:
    """Seconds that something took."""

    seconds: float = 0.0


@contextmanager
def timed(device: torch.device) -> Iterator[Clock]:
    """Measure what is computed inside, on a GPU too."""
    clock = Clock()
    _wait(device)
    start = time.perf_counter()
    yield clock
    _wait(device)
    clock.seconds = time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Cost:
    """Of one network in an epoch: seconds of training, trained numbers, seconds per 1,000 rows."""

    training_time: float
    parameters: float
    latency: float


def shared(
    sizes: Sequence[float], rows: Sequence[int], training: float, predicting: float, scored: int
) -> list[Cost]:
    """The costs of the networks of a pass, of so many trained numbers and training rows each, that
    took so many seconds; each predicted `scored` rows.
    """
    work = [size * max(count, 1) for size, count in zip(sizes, rows, strict=True)]
    return [
        Cost(
            training_time=training * done / sum(work),
            parameters=size,
            latency=1000 * predicting * size / sum(sizes) / max(scored, 1),
        )
        for size, done in zip(sizes, work, strict=True)
    ]


def of_trial(
    names: Sequence[str],
    networks: Sequence[Sequence[Cost]],
    ensemble: bool,
    before: Mapping[str, float],
) -> dict[str, list[float]]:
    """The named costs by fold, of networks by [part][restart]; `before`: their values one epoch
    ago.
    """

    def mean(name: str, *, together: bool) -> float:
        folds = [[getattr(network, name) for network in part] for part in networks]
        return statistics.fmean(sum(f) if together else statistics.fmean(f) for f in folds)

    latency = mean("latency", together=ensemble)
    found = {
        "training_time": before.get("training_time", 0.0) + mean("training_time", together=True),
        "parameters": mean("parameters", together=ensemble),
        "latency": min(latency, before.get("latency", latency)),
    }
    return {name: [found[name]] * len(networks) for name in names}


def before(points: Sequence[Point], optimised: Sequence[str]) -> dict[str, float]:
    """The values of a curve's last point by name."""
    if not points:
        return {}
    return points[-1].metrics | dict(zip(optimised, points[-1].values, strict=True))
