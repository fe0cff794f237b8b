"""What a pruner declares, what it is shown of a trial, and how it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hpo_service import errors, plugins
from hpo_service.seen import CODES, Losses, Mask

Numbers = NDArray[np.intp]


@dataclass(frozen=True)
class Facts:
    """What pruners are told of a study before its first trial.

    `signs`: what makes a loss, lower is better, of a value of each metric. `folds`: how many a
    report gives the values of, 0 where none are known; `ratio`: rows that a fold scores by rows it
    trains on. `epochs`: of each trial, unless trials differ or nobody says. `iterated`: trials end
    after so many steps of the optimizer, and how many epochs these are is not known beforehand.
    """

    signs: tuple[float, ...] = (1.0,)
    folds: int = 0
    ratio: float = 0.0
    epochs: int | None = None
    iterated: bool = False

    @property
    def metrics(self) -> int:
        """How many losses a trial has."""
        return len(self.signs)


@dataclass(frozen=True)
class Standings:
    """How all trials of a study stand, by number; pruners change nothing of it.

    `states` (trials,): codes of `seen.CODES`; `losses` (trials, metrics): of their values, NaN
    where there are none; `kinds` (trials,): equal for trials of the same epochs and schedule;
    `epochs` (trials,): NaN where they are not known.
    `at(step)`: the losses (trials, metrics) of each trial that reported this step, NaN for what
    was not finite. `reported(step)` (trials,): which trials did. `folds_at(step, numbers)`: of
    these trials the losses (trials, metrics, folds) of each fold, NaN where there are none.
    """

    states: NDArray[np.int8]
    losses: Losses
    kinds: NDArray[np.int64]
    epochs: NDArray[np.float64]
    at: Callable[[int], Losses]
    reported: Callable[[int], Mask]
    folds_at: Callable[[int, Sequence[int]], NDArray[np.float64]]

    def alike(self, number: int) -> Mask:
        """Which trials have the same epochs and schedule as this one, itself among them."""
        return np.asarray(self.kinds == self.kinds[number])

    @cached_property
    def complete(self) -> Mask:
        """Which trials ran to their end and have all their values."""
        ended = self.states == CODES["complete"]
        return np.asarray(ended & ~np.isnan(self.losses).any(1))


@dataclass(frozen=True)
class Case:
    """A trial at the step to be judged, its last one.

    `steps` (steps,): all it has reported, in their order; `curve` (steps, metrics): its losses
    there; `folds` (metrics, folds): the losses of each fold at the last one.
    """

    number: int
    steps: Sequence[int]
    curve: Losses
    folds: NDArray[np.float64]
    standings: Standings

    @property
    def step(self) -> int:
        """Where it stands."""
        return self.steps[-1]

    @property
    def losses(self) -> Losses:
        """What it has there (metrics,)."""
        return np.asarray(self.curve[-1])

    def reaches(self, rungs: Sequence[int]) -> bool:
        """Whether this is its first step at or beyond one of these."""
        before = self.steps[-2] if len(self.steps) > 1 else 0
        return any(before < rung <= self.step for rung in rungs)


class Pruner(Protocol):
    """Judges running trials; keeps nothing: the study's rows alone decide."""

    def prunes(self, case: Case) -> bool:
        """Whether the trial should end here."""


def _any_study(_options: Any, _facts: Facts) -> None:
    pass


@dataclass(frozen=True)
class PrunerEntry:
    """A way to judge a running trial; without `build` none is ever ended.

    `check_facts` raises `InvalidRequest` where it cannot judge the trials of a study.
    """

    options: type[plugins.Options]
    build: Callable[[Any, Facts], Pruner] | None = None
    check_facts: Callable[[Any, Facts], None] = _any_study
    # It compares a trial with itself alone, or with those that are as long.
    any_length: bool = False

    def check(self, options: Mapping[str, Any], facts: Facts) -> None:
        """Raise `InvalidRequest` unless the pruner can judge the trials of such a study."""
        self.check_facts(plugins.parse(self.options, options, "pruner"), facts)

    def make(self, options: Mapping[str, Any], facts: Facts) -> Pruner | None:
        """The pruner of one study."""
        if self.build is None:
            return None
        return self.build(plugins.parse(self.options, options, "pruner"), facts)


def need_folds(name: str, facts: Facts) -> None:
    """Raise `InvalidRequest` where reports have fewer than two folds to compare by."""
    if facts.folds < 2:
        known = "one fold" if facts.folds else "no folds known to the server"
        raise errors.invalid(
            "pruner.name",
            f"{name} compares trials fold by fold, but this study has {known}: take asha or median",
        )
