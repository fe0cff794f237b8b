"""Our samplers in an Optuna study of your own: `optuna.create_study(sampler=AsOptuna("tpe"))`.

Define-by-run spaces are not known beforehand. What all trials so far have in common is proposed
together, anything else by itself.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpo_service import protocol, space
from hpo_service.cube import Cube
from hpo_service.protocol import Choice, Distribution, FloatRange, IntRange
from hpo_service.samplers import SAMPLERS, Ask, Suggestion
from hpo_service.seen import CODES, Losses, Seen
from hpo_service.space import Space

STATES: dict[TrialState, protocol.TrialState] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "fail",
}
Distributions = Mapping[str, BaseDistribution]


class AsOptuna(BaseSampler):
    """A sampler of `SAMPLERS` as one of Optuna's.

    `options` are the sampler's own, as in a study's spec. With a `space`, the sampler knows it from
    the first trial on, conditions included, and the trials must ask for its parameters.
    """

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any] | None = None,
        seed: int | None = None,
        space: Space | None = None,
    ) -> None:
        self.entry, self.options = SAMPLERS[name], dict(options or {})
        self.seed = random.randrange(2**32) if seed is None else seed
        self.space = space
        self._common = IntersectionSearchSpace(include_pruned=True)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """What is proposed together: the whole space, or what all trials so far have had."""
        if self.space is not None:
            return space.distributions(self.space)
        return {n: d for n, d in self._common.calculate(study).items() if not d.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A value for each of these parameters that is active."""
        if not search_space:
            self._refuse(study)
            return {}
        if self.space is None:
            return self._proposed(study, trial, search_space, _space(search_space))
        found = self._proposed(study, trial, space.distributions(self.space), self.space)
        return {name: value for name, value in found.items() if name in search_space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """A value for one parameter, learnt from the trials that have it."""
        alone: dict[str, BaseDistribution] = {param_name: param_distribution}
        return self._proposed(study, trial, alone, _space(alone))[param_name]

    def _proposed(
        self, study: Study, trial: FrozenTrial, asked: Distributions, searched: Space
    ) -> dict[str, Any]:
        self._refuse(study)
        cube = Cube(searched)
        sampler = self.entry.make(cube, self.options)
        # Parameters that are sampled one by one must not get the same random numbers.
        seed = (self.seed + zlib.crc32(" ".join(asked).encode())) % 2**32
        ask = Ask(trial.number, self.entry.seed(seed, trial.number))
        found = sampler.propose(_seen(study, trial, cube, asked), ask)
        if not found:
            raise ValueError("The search space has no more points to try.")
        self._note(study, trial, found[0])
        return {
            name: asked[name].to_external_repr(float(number))
            for name, number in zip(cube.names, cube.rows([found[0].params])[0], strict=True)
            if not np.isnan(number)
        }

    def _refuse(self, study: Study) -> None:
        if not self.entry.multi_objective:
            self._raise_error_if_multi_objective(study)

    def _note(self, study: Study, trial: FrozenTrial, suggestion: Suggestion) -> None:
        for key, value in suggestion.attrs.items():
            study._storage.set_trial_system_attr(trial._trial_id, key, value)


def _space(asked: Distributions) -> dict[str, Distribution]:
    return {name: _distribution(given) for name, given in asked.items()}


def _distribution(given: BaseDistribution) -> Distribution:
    """A choice is known by its place in the list: Optuna's may be of any type."""
    if isinstance(given, CategoricalDistribution):
        return Choice(type="categorical", choices=list(range(len(given.choices))))
    if isinstance(given, IntDistribution):
        return IntRange(type="int", low=given.low, high=given.high, step=given.step, log=given.log)
    assert isinstance(given, FloatDistribution)
    return FloatRange(type="float", low=given.low, high=given.high, step=given.step, log=given.log)


def _seen(study: Study, current: FrozenTrial, cube: Cube, asked: Distributions) -> Seen:
    """The trials of the study but for the one that is asked for."""
    trials = [
        trial
        for trial in study._storage.get_all_trials(study._study_id, deepcopy=False)
        if trial.number != current.number
    ]
    rows = np.array([_row(trial, cube, asked) for trial in trials]).reshape(-1, len(cube.names))
    signs = np.array([1.0 if d == StudyDirection.MINIMIZE else -1.0 for d in study.directions])
    ended = [_ended(trial, len(signs)) for trial in trials]

    def at(step: int) -> Losses:
        curves = [trial.intermediate_values.get(step, np.nan) for trial in trials]
        return np.asarray(np.array(curves).reshape(-1, 1) * signs)

    return Seen(
        cube=cube,
        rows=rows,
        legal=cube.legal(rows),
        states=np.array([CODES[STATES[trial.state]] for trial in trials], dtype=np.int8),
        losses=np.array([values for _, values in ended]).reshape(-1, len(signs)) * signs,
        steps=np.array([step for step, _ in ended], dtype=np.int64),
        attrs=[trial.system_attrs for trial in trials],
        at=at,
    )


def _row(trial: FrozenTrial, cube: Cube, asked: Distributions) -> list[float]:
    """The values of a trial; NaN for what it does not have, or had as something else."""
    return [
        asked[name].to_internal_repr(trial.params[name])
        if trial.distributions.get(name) == asked[name]
        else np.nan
        for name in cube.names
    ]


def _ended(trial: FrozenTrial, metrics: int) -> tuple[int, list[float]]:
    """Where a pruned trial was stopped (0: not pruned, or not known), and its values then."""
    if trial.state == TrialState.PRUNED and trial.intermediate_values and metrics == 1:
        step = trial.last_step or 0
        return step, [trial.intermediate_values[step]]
    return 0, list(trial.values) if trial.values else [np.nan] * metrics
