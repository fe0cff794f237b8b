"""Samplers at equal budgets, in tables of settings that were all trained beforehand.

A table holds the accuracy of 225 MLPs on digits on one split. A sampler searches the continuous
space between them and is told the value of the nearest, so that thousands of studies cost no
training. What it has found best is worth its mean in all other tables: on other splits, with other
first weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna

from benchmarks.arms import Arm, Case, Floats, Measured, Params, Setting, scores
from hpo_service import space
from hpo_service.protocol import Distribution, FloatRange, IntRange
from hpo_service.samplers.as_optuna import AsOptuna

BUDGET = 27
CASE = Case("digits", "accuracy", 0.6)
SPACE: dict[str, Distribution] = {
    "learning_rate": FloatRange(type="float", low=1e-4, high=1e-1, log=True),
    "hidden_units": IntRange(type="int", low=4, high=64, log=True),
    "dropout": FloatRange(type="float", low=0.0, high=0.6),
}
LEVELS: dict[str, Floats] = {
    "learning_rate": np.geomspace(1e-4, 1e-1, 9),
    "hidden_units": np.array([4.0, 8.0, 16.0, 32.0, 64.0]),
    "dropout": np.linspace(0, 0.6, 5),
}
# Three values of each parameter: as many points as there are trials.
POINTS: dict[str, Params] = {"grid": {"points": dict.fromkeys(SPACE, 3)}}
NAMES = {"grid": "grid", "random": "random", "tpe": "Bayesian, TPE", "gp": "Bayesian, GP"}


def settings(epochs: int) -> list[Setting]:
    """What a table holds, the last parameter changing fastest."""
    fixed = {"hidden_layers": 1, "epochs": epochs}
    shape = [len(level) for level in LEVELS.values()]
    return [Setting(fixed | _params(at)) for at in np.ndindex(*shape)]


def _params(at: Sequence[int]) -> Params:
    rate, units, dropout = (level[i] for level, i in zip(LEVELS.values(), at, strict=True))
    return {"learning_rate": float(rate), "hidden_units": int(units), "dropout": float(dropout)}


def nearest(params: Params) -> int:
    """The place in a table of the setting that is nearest to these parameters."""
    at = []
    for name, level in LEVELS.items():
        far = np.abs(_scaled(name, level) - _scaled(name, np.float64(params[name])))
        at.append(int(far.argmin()))
    return int(np.ravel_multi_index(at, [len(level) for level in LEVELS.values()]))


def _scaled(name: str, values: Any) -> Any:
    return values if name == "dropout" else np.log(values)


def search(sampler: str, table: Floats, seed: int) -> int:
    """The place of the best setting that a study of `BUDGET` trials has found in the table."""
    asked = AsOptuna(sampler, POINTS.get(sampler, {}), seed, SPACE)
    study = optuna.create_study(direction="maximize", sampler=asked)
    told = []
    for _ in range(BUDGET):
        trial = study.ask(space.distributions(SPACE))
        told.append(nearest(trial.params))
        study.tell(trial, float(table[told[-1]]))
    return max(told, key=table.__getitem__)


def measure(tables: int, searches: int, epochs: int) -> dict[str, Measured]:
    """Each sampler in each table: what it found, in all other tables, mean over its searches."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    known = np.array([scores(CASE, settings(epochs), seed) for seed in range(tables)])
    return {name: _measured(name, known, searches) for name in NAMES}


def _measured(sampler: str, known: Floats, searches: int) -> Measured:
    values = np.empty(len(known))
    for at, table in enumerate(known):
        elsewhere = np.delete(known, at, axis=0).mean(0)
        seeds = range(searches * at, searches * (at + 1))
        values[at] = np.mean([elsewhere[search(sampler, table, seed)] for seed in seeds])
    return Measured(Arm(NAMES[sampler], ()), Setting({}), values)
