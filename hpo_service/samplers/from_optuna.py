"""Optuna's samplers behind our registry: they are shown our trials as Optuna's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from pydantic import Field

from hpo_service import errors, history, space
from hpo_service.cube import Cube
from hpo_service.plugins import Options
from hpo_service.protocol import ParamValue
from hpo_service.samplers.base import Ask, SamplerEntry, Suggestion
from hpo_service.seen import STATES, Attrs, Seen
from hpo_service.space import Params
from hpo_service.view import View

# How often a sampler that knows no constraints is asked for a point that meets them.
TIMES = 100


class FromOptuna:
    """A sampler of Optuna's, made afresh for each trial by `make(seed)`.

    It sees losses, which it minimises, whatever the direction of the study.
    """

    def __init__(self, cube: Cube, make: Callable[[int], BaseSampler]) -> None:
        self.cube, self.make = cube, make
        self._finished: list[FrozenTrial | None] = []

    def propose(self, seen: Seen, ask: Ask) -> list[Suggestion]:
        """One trial after the other, each seeing those before it as running."""
        view = View([StudyDirection.MINIMIZE] * seen.metrics, self._trials(seen), seen.study_attrs)
        found = []
        for place in range(ask.count):
            suggestion = self._feasible(view, len(seen) + place, ask, ask.seed + place)
            trial = self._trial(len(seen) + place, "running", suggestion.params, suggestion.attrs)
            view.trials[trial._trial_id] = trial
            found.append(suggestion)
        return found

    def _feasible(self, view: View, number: int, ask: Ask, seed: int) -> Suggestion:
        """The first of its proposals that meets the constraints, or the last one there is."""
        for time in range(TIMES):
            sampler = self.make((seed + time * 1_000_003) % 2**32)
            suggestion = self._suggested(sampler, view, number, ask.fixed)
            if self.cube.feasible(self.cube.rows([suggestion.params])).all():
                break
        return suggestion

    def _suggested(
        self, sampler: BaseSampler, view: View, number: int, fixed: Params
    ) -> Suggestion:
        """The space walked, parents first, as Optuna's protocol of samplers wants it."""
        view.trial_attrs.clear()
        attrs = {"fixed_params": dict(fixed)} if fixed else {}
        trial = self._trial(number, "running", {}, attrs)
        study = view.optuna_study(sampler=sampler)
        sampler.before_trial(study, trial)
        together = sampler.infer_relative_search_space(study, trial)
        relative = sampler.sample_relative(study, trial, together)
        for name, distribution in self.cube.distributions.items():
            if not space.active(self.cube.space, name, trial.params):
                continue
            if name in fixed:
                value = fixed[name]
            elif distribution.single():
                value = _single(distribution)
            elif name in relative and together[name] == distribution:
                value = relative[name]
            else:
                value = sampler.sample_independent(study, trial, name, distribution)
            # There and back: a plain number of the right type, or the choice as it is listed.
            value = distribution.to_external_repr(distribution.to_internal_repr(value))
            trial.params[name], trial.distributions[name] = value, distribution
        noted = view.trial_attrs.get(trial._trial_id, {})
        return Suggestion(dict(trial.params), dict(noted), dict(view.study_attrs))

    def _trials(self, seen: Seen) -> list[FrozenTrial]:
        """As Optuna has them; what has ended is made once."""
        self._finished += [None] * (len(seen) - len(self._finished))
        return [self._finished[at] or self._made(seen, at) for at in range(len(seen))]

    def _made(self, seen: Seen, at: int) -> FrozenTrial:
        params = self.cube.params(seen.rows[at]) if seen.legal[at] else {}
        losses = None if np.isnan(seen.losses[at]).any() else seen.losses[at].tolist()
        state = STATES[seen.states[at]]
        trial = self._trial(at, state, params, seen.attrs[at], losses, int(seen.steps[at]))
        if trial.state.is_finished():
            self._finished[at] = trial
        return trial

    def _trial(
        self,
        number: int,
        state: str,
        params: Params,
        attrs: Attrs,
        losses: list[float] | None = None,
        step: int = 0,
    ) -> FrozenTrial:
        return FrozenTrial(
            number=number,
            trial_id=number,
            state=history.STATES[state],
            value=None,
            values=losses,
            datetime_start=None,
            datetime_complete=None,
            params=dict(params),
            distributions={name: self.cube.distributions[name] for name in params},
            user_attrs={},
            system_attrs=dict(attrs),
            intermediate_values={step: losses[0]} if step and losses else {},
        )


def _single(
    distribution: CategoricalDistribution | FloatDistribution | IntDistribution | Any,
) -> ParamValue:
    if isinstance(distribution, CategoricalDistribution):
        choice: ParamValue = distribution.choices[0]
        return choice
    low: ParamValue = distribution.low
    return low


class CmaEsOptions(Options):
    """Covariance matrix adaptation (Hansen, 2001): for 100 trials and more of numbers alone.

    Choices, and parameters with conditions, are drawn at random beside it.
    """

    n_startup_trials: Annotated[
        int, Field(ge=1, le=10_000, description="Completed trials before the first generation.")
    ] = 1
    population_size: Annotated[
        int | None,
        Field(ge=4, le=10_000, description="Trials of a generation; none: by the parameters."),
    ] = None


# Its state lies pickled in the attributes of trials, which no caller of the API can set.
def _cma_es(cube: Cube, options: CmaEsOptions) -> FromOptuna:
    def make(seed: int) -> BaseSampler:
        return CmaEsSampler(
            seed=seed,
            n_startup_trials=options.n_startup_trials,
            popsize=options.population_size,
            warn_independent_sampling=False,
        )

    return FromOptuna(cube, make)


def _has_numbers(cube: Cube, _options: CmaEsOptions) -> None:
    """Raise `InvalidRequest` unless some number is in every trial: nothing else is adapted."""
    for name, distribution in cube.distributions.items():
        choice = isinstance(distribution, CategoricalDistribution)
        if not choice and not distribution.single() and not cube.space[name].when:
            return
    raise errors.invalid(
        "sampler.name", "moves numbers that are in every trial, and there is none: take `tpe`"
    )


CMA_ES = SamplerEntry(
    options=CmaEsOptions,
    build=_cma_es,
    check_space=_has_numbers,
    seeded="study",
    multi_objective=False,
)


class Nsga2Options(Options):
    """Genetic algorithm NSGA-II (Deb, 2002): for several metrics and hundreds of trials."""

    population_size: Annotated[
        int, Field(ge=2, le=10_000, description="Trials of a generation.")
    ] = 50
    crossover_prob: Annotated[
        float, Field(ge=0, le=1, description="How often a trial has two parents.")
    ] = 0.9
    mutation_prob: Annotated[
        float | None,
        Field(ge=0, le=1, description="Of each parameter; none: one parameter on average."),
    ] = None


def _nsga2(cube: Cube, options: Nsga2Options) -> FromOptuna:
    def make(seed: int) -> BaseSampler:
        return NSGAIISampler(
            seed=seed,
            population_size=options.population_size,
            crossover_prob=options.crossover_prob,
            mutation_prob=options.mutation_prob,
        )

    return FromOptuna(cube, make)


NSGA2 = SamplerEntry(options=Nsga2Options, build=_nsga2)
