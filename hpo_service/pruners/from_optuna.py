"""Optuna's pruners, with those of their options that are worth a choice."""

from __future__ import annotations

from typing import Annotated

from optuna.pruners import BasePruner, MedianPruner, SuccessiveHalvingPruner
from pydantic import Field

from hpo_service.plugins import Options
from hpo_service.pruners.base import PrunerEntry


class NoneOptions(Options):
    """Every trial runs to its end."""


class MedianOptions(Options):
    """Ends a trial whose best value so far is worse than the median of the others at that step."""

    n_startup_trials: Annotated[
        int, Field(ge=1, le=10_000, description="Complete trials before the first is pruned.")
    ] = 5
    n_warmup_steps: Annotated[
        int, Field(ge=0, le=10**6, description="Steps of each trial before it is judged.")
    ] = 5


class AshaOptions(Options):
    """Asynchronous successive halving (Li, 2020): few survive each rung, and then run longer."""

    min_resource: Annotated[int, Field(ge=1, le=10**6, description="Steps to the first rung.")] = 2
    reduction_factor: Annotated[
        int, Field(ge=2, le=100, description="One of so many trials goes on to the next rung.")
    ] = 3


def _median(options: MedianOptions) -> BasePruner:
    return MedianPruner(
        n_startup_trials=options.n_startup_trials, n_warmup_steps=options.n_warmup_steps
    )


def _asha(options: AshaOptions) -> BasePruner:
    return SuccessiveHalvingPruner(
        min_resource=options.min_resource, reduction_factor=options.reduction_factor
    )


NONE = PrunerEntry(options=NoneOptions)
MEDIAN = PrunerEntry(options=MedianOptions, build=_median)
ASHA = PrunerEntry(options=AshaOptions, build=_asha)
