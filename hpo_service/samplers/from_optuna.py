"""Optuna's samplers, with those of their options that are worth a choice."""

from __future__ import annotations

from typing import Annotated

from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from pydantic import Field

from hpo_service.plugins import Options
from hpo_service.samplers.base import SamplerEntry
from hpo_service.space import Space


class RandomOptions(Options):
    """Each trial independent of all others (Bergstra and Bengio, 2012)."""


class TpeOptions(Options):
    """Tree-structured Parzen estimator: densities of good and of other trials (Bergstra, 2011)."""

    n_startup_trials: Annotated[
        int, Field(ge=1, le=10_000, description="Finished trials before the model is asked.")
    ] = 10
    n_ei_candidates: Annotated[
        int, Field(ge=1, le=10_000, description="Points drawn, of which the best is taken.")
    ] = 24


def _random(_space: Space, _options: RandomOptions, seed: int) -> BaseSampler:
    return RandomSampler(seed=seed)


def _tpe(_space: Space, options: TpeOptions, seed: int) -> BaseSampler:
    # Running trials count as bad ones, so that parallel workers keep apart.
    return TPESampler(
        seed=seed,
        n_startup_trials=options.n_startup_trials,
        n_ei_candidates=options.n_ei_candidates,
        constant_liar=True,
    )


RANDOM = SamplerEntry(options=RandomOptions, build=_random)
TPE = SamplerEntry(options=TpeOptions, build=_tpe)
