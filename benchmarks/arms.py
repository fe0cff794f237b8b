"""Settings tried on one split after another of the same rows, and compared in pairs.

A seed stands for a split and for first weights: two settings of one seed are trained on the same
rows, scored on the same others, and begin at the same weights where their shapes agree. All of a
seed are leases of one pack, trained as a worker trains them.
"""

from __future__ import annotations

import math
import tempfile
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hpo_service import catalog, protocol
from hpo_service.datasets.builtin import DATASETS
from workers import objective
from workers.work import Work

Params = dict[str, Any]
Floats = NDArray[np.float64]
Answer = Literal["holds", "the opposite", "no difference shown"]

LEVEL = 0.95
# The first of the seeds that choose a setting; those that score it begin at 0.
CHOOSING = 1000


@dataclass(frozen=True)
class Case:
    """A built-in data set, of whose rows `share` score and the rest train."""

    dataset: str
    metric: str
    share: float

    @property
    def sign(self) -> float:
        """What makes more the better."""
        return 1.0 if catalog.METRICS[self.metric].direction == "maximize" else -1.0


@dataclass(frozen=True)
class Setting:
    """A model family and its hyperparameters."""

    params: Params
    model: str = "mlp"


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: of several settings the one that is best on seeds of their own."""

    name: str
    settings: tuple[Setting, ...]

    @classmethod
    def of(cls, name: str, base: Params, *changes: Params) -> Arm:
        """MLPs that differ from `base` by each of these changes; without any the base itself."""
        return cls(name, tuple(Setting(base | each) for each in changes or ({},)))


@dataclass(frozen=True)
class Measured:
    """An arm's setting, and its value for each seed."""

    arm: Arm
    setting: Setting
    values: Floats

    @property
    def mean(self) -> float:
        return float(self.values.mean())


@dataclass(frozen=True)
class Difference:
    """How much better one arm is than another, in the mean, and the ends of its t interval."""

    mean: float
    low: float
    high: float

    @property
    def answer(self) -> Answer:
        """What the interval says of the claim that it is better."""
        if self.low > 0:
            return "holds"
        return "the opposite" if self.high < 0 else "no difference shown"


def measure(case: Case, arms: Sequence[Arm], choosing: int, scoring: int) -> list[Measured]:
    """Every arm on so many seeds, each with the setting that was best on so many others."""
    several = [arm for arm in arms if len(arm.settings) > 1]
    every = [setting for arm in several for setting in arm.settings]
    picked = _picked(case, several, every, range(CHOOSING, CHOOSING + choosing))
    settings = [picked.get(arm.name, arm.settings[0]) for arm in arms]
    values = np.array([scores(case, settings, seed) for seed in range(scoring)]).T
    return [Measured(*each) for each in zip(arms, settings, values, strict=True)]


def _picked(
    case: Case, arms: Sequence[Arm], settings: Sequence[Setting], seeds: Iterable[int]
) -> dict[str, Setting]:
    if not arms:
        return {}
    means = case.sign * np.mean([scores(case, settings, seed) for seed in seeds], axis=0)
    found, at = {}, 0
    for arm in arms:
        best = int(means[at : at + len(arm.settings)].argmax())
        found[arm.name] = arm.settings[best]
        at += len(arm.settings)
    return found


def difference(case: Case, one: Measured, other: Measured) -> Difference:
    """One less the other, positive where the first is better; interval over seeds."""
    return interval(case.sign * (one.values - other.values))


def interval(differences: Floats) -> Difference:
    """The mean and its interval by Student's t; where all are equal, of no width."""
    mean, error = float(differences.mean()), float(stats.sem(differences))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(differences) - 1)) * error
    return Difference(mean, mean - reach, mean + reach)


def scores(case: Case, settings: Sequence[Setting], seed: int) -> list[float]:
    """The value of each setting; of one that diverged the worst there is, 0 or infinite."""
    leases = [_lease(case, setting, seed) for setting in settings]
    channel = Channel()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows")
        path.write_bytes(_blob(case.dataset))
        objective.run(Work(leases, path, None, "cpu", 1), channel)
    return [_value(case, channel.tells[lease.lease_id]) for lease in leases]


def _value(case: Case, tell: protocol.Tell) -> float:
    if tell.values and tell.values[0] is not None:
        return tell.values[0]
    if tell.error is None or tell.error.reason != "non_finite":
        raise RuntimeError(f"a trial on {case.dataset} has failed: {tell.error}")
    return 0.0 if case.metric == "accuracy" else -case.sign * math.inf


@cache
def _blob(dataset: str) -> bytes:
    return DATASETS[dataset].load().to_bytes()


def _lease(case: Case, setting: Setting, seed: int) -> protocol.TrialLease:
    return protocol.TrialLease(
        lease_id=str(uuid.uuid4()),
        study_id=1,
        study="claims",
        trial_id=1,
        number=0,
        kind="search",
        attempt=1,
        ttl=60.0,
        model=setting.model,
        params=setting.params,
        seed=seed,
        study_seed=seed,
        objective=protocol.TrainObjective(
            kind="train",
            model=setting.model,
            dataset=case.dataset,
            metrics=[case.metric],
            validation=protocol.Validation(method="hold_out", share=case.share),
        ),
    )


@dataclass
class Channel:
    """Keeps how each lease ended; there is no server to say anything."""

    tells: dict[str, protocol.Tell] = field(default_factory=dict)

    def report(self, report: protocol.Report) -> None:
        pass

    def decision(self, lease_id: str) -> protocol.Decision | None:
        return None

    def tell(self, lease_id: str, tell: protocol.Tell) -> None:
        self.tells[lease_id] = tell

    def artifact(self, lease_id: str, name: str, data: bytes) -> None:
        pass

    def checkpoint(self, lease_id: str, step: int, data: bytes) -> None:
        pass

    def more(self) -> list[protocol.TrialLease]:
        return []
