"""Recorded learning curves as studies in memory: settings are tried, and real pruners judge them.

`digits` and `breast_cancer`: see benchmarks/record_curves.py. The others are text networks of
TaskSet (Metz et al., "Using a thousand optimization tasks to learn hyperparameter search
strategies", 2020; Apache-2.0): the validation losses of 1,000 settings of an optimizer at 51 points
of their training, in benchmarks/curves/taskset.npz.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.record_curves import CURVES, params
from hpo_service import catalog
from hpo_service.cube import Cube, Rows
from hpo_service.protocol import FloatRange
from hpo_service.pruners import PRUNERS, Case, Facts, Standings
from hpo_service.seen import CODES, Losses, Seen
from hpo_service.space import Space

FOLDED = ("digits", "breast_cancer")
TASKS = (
    "patch128_LSTM128_bs64",
    "patch32_GRU64_avg_bs128",
    "patch32_LSTM128_E128_bs128",
    "patch32_VRNN64_relu_avg_bs128",
)
# Of TaskSet's settings those whose ranges are not logarithmic.
EVEN = ("beta1", "beta2")


@dataclass(frozen=True)
class Recorded:
    """`losses` (settings, steps, metrics, folds), NaN from where a setting diverged; the settings
    as `rows` of a cube.
    """

    cube: Cube
    rows: Rows
    losses: NDArray[np.float64]
    facts: Facts

    @property
    def steps(self) -> int:
        """Of each trial that is not ended early."""
        return int(self.losses.shape[1])

    @property
    def mean(self) -> NDArray[np.float64]:
        """Over folds: (settings, steps, metrics)."""
        return np.asarray(self.losses.mean(3))

    def nearest(self, row: Rows, tried: Sequence[int]) -> int:
        """The setting that is nearest to a row of the cube, of those that are left."""
        here, there = self.cube.positions(self.rows), self.cube.positions(row[None])
        one, other = np.isnan(here), np.isnan(there)
        apart = np.where(one | other, 1.0 * (one != other), (here - there) ** 2)
        apart = np.where(self.cube.unordered & (apart > 0), 1.0, apart)
        total = apart.sum(1)
        total[list(tried)] = np.inf
        return int(total.argmin())


@cache
def load(name: str, metrics: tuple[str, ...] = ("accuracy",)) -> Recorded:
    """Curves by the name of their data set or task; `metrics` of those that have folds."""
    return _folded(name, metrics) if name in FOLDED else _task(name)


def _folded(name: str, metrics: tuple[str, ...]) -> Recorded:
    with np.load(CURVES / f"{name}.npz") as stored:
        given = [_loss(metric, stored[metric].astype(np.float64)) for metric in metrics]
        ratio = float(stored["ratio"])
    losses = np.stack(given, axis=2)
    cube = Cube(catalog.FAMILIES["mlp"].default_space)
    rows = cube.rows([params(number) for number in range(len(losses))])
    facts = Facts((1.0,) * len(metrics), losses.shape[3], ratio, losses.shape[1])
    return Recorded(cube, rows, losses, facts)


def _loss(metric: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return -values if metric == "accuracy" else values


def _task(name: str) -> Recorded:
    with np.load(CURVES / "taskset.npz") as stored:
        names, rows = stored["names"].tolist(), stored["settings"].astype(np.float64)
        losses = stored[name].astype(np.float64)[:, :, None, None]
    searched: Space = {
        each: FloatRange(type="float", low=low, high=high, log=each not in EVEN)
        for each, low, high in zip(names, rows.min(0).tolist(), rows.max(0).tolist(), strict=True)
    }
    cube = Cube(searched)
    order = [names.index(each) for each in cube.names]
    return Recorded(cube, rows[:, order], losses, Facts(epochs=losses.shape[1]))


@dataclass
class Study:
    """Trials of recorded settings, judged step by step.

    `settings`: of each trial which; `reached`: its last step; `epochs` spent so far.
    """

    recorded: Recorded
    pruner: str
    options: dict[str, Any] = field(default_factory=dict)
    settings: list[int] = field(default_factory=list)
    reached: list[int] = field(default_factory=list)
    states: list[int] = field(default_factory=list)
    epochs: int = 0

    def __post_init__(self) -> None:
        self.mean = self.recorded.mean
        self._judge = PRUNERS[self.pruner].make(self.options, self.recorded.facts)

    def run(self, settings: Sequence[int], workers: int = 1) -> Iterator[int]:
        """Try these settings, so many side by side; yields the number of each when it has ended."""
        left, running = list(settings), list[int]()
        while left or running:
            while left and len(running) < workers:
                running.append(self.start(left.pop(0)))
            for number in tuple(running):
                if not self.step(number):
                    running.remove(number)
                    yield number

    def start(self, setting: int) -> int:
        """Begin a trial; its number."""
        self.settings.append(setting)
        self.reached.append(0)
        self.states.append(CODES["running"])
        return len(self.settings) - 1

    def step(self, number: int) -> bool:
        """One more step of a trial; whether it goes on."""
        self.reached[number] += 1
        self.epochs += 1
        # A diverged network is not trained on: its worker says that it has failed.
        if np.isnan(self.mean[self.settings[number], self.reached[number] - 1]).any():
            self.states[number] = CODES["fail"]
        elif self._judge is not None and self._judge.prunes(self._case(number)):
            self.states[number] = CODES["pruned"]
        elif self.reached[number] == self.recorded.steps:
            self.states[number] = CODES["complete"]
        return self.states[number] == CODES["running"]

    def at(self, step: int) -> Losses:
        """The losses (trials, metrics) of those that got to a step, NaN elsewhere."""
        found = self.mean[self.settings, step - 1].copy()
        found[np.array(self.reached) < step] = np.nan
        return found

    @property
    def final(self) -> Losses:
        """The losses (trials, metrics) of complete trials, NaN elsewhere."""
        found = self.mean[self.settings, -1].copy()
        found[np.array(self.states) != CODES["complete"]] = np.nan
        return found

    def seen(self) -> Seen:
        """What a sampler is shown."""
        reached, states = np.array(self.reached, dtype=np.int64), np.array(self.states, np.int8)
        rows = self.recorded.rows[self.settings].reshape(len(states), -1)
        losses = self.mean[self.settings, np.maximum(reached - 1, 0)].reshape(len(states), -1)
        pruned = states == CODES["pruned"]
        valued = pruned | (states == CODES["complete"])
        return Seen(
            cube=self.recorded.cube,
            rows=rows,
            legal=np.ones(len(rows), dtype=bool),
            states=states,
            losses=np.where(valued[:, None], losses, np.nan),
            steps=np.where(pruned, reached, 0),
            attrs=[{}] * len(rows),
            at=self.at,
        )

    def _case(self, number: int) -> Case:
        setting, step = self.settings[number], self.reached[number]
        standings = Standings(
            states=np.array(self.states, dtype=np.int8),
            losses=self.final,
            kinds=np.zeros(len(self.settings), dtype=np.int64),
            epochs=np.full(len(self.settings), float(self.recorded.steps)),
            at=self.at,
            reported=lambda at: np.array(self.reached) >= at,
            folds_at=lambda at, numbers: self.recorded.losses[
                [self.settings[each] for each in numbers], at - 1
            ],
        )
        curve, folds = self.mean[setting, :step], self.recorded.losses[setting, step - 1]
        return Case(number, range(1, step + 1), curve, folds, standings)
