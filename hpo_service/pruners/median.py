"""Ends trials that are worse than a share of the complete ones were at the same step."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from hpo_service.plugins import Options
from hpo_service.pruners.base import Case, Facts, PrunerEntry
from hpo_service.pruners.places import place


class MedianOptions(Options):
    """Ends a trial whose best value so far is worse than the median of the others at that step."""

    n_startup_trials: Annotated[
        int, Field(ge=1, le=10_000, description="Complete trials before the first is pruned.")
    ] = 5
    n_warmup_steps: Annotated[
        int, Field(ge=0, le=10**6, description="Steps of each trial before it is judged.")
    ] = 5


class PercentileOptions(MedianOptions):
    """As median, with another share that may go on."""

    percentile: Annotated[
        float, Field(gt=0, lt=100, description="Of the others, how many a trial may be among.")
    ] = 25.0


class Percentile:
    """A trial goes on while it is among the best `percentile` percent of the complete ones."""

    def __init__(self, percentile: float, n_startup_trials: int, n_warmup_steps: int) -> None:
        self.share = percentile / 100
        self.n_startup_trials, self.n_warmup_steps = n_startup_trials, n_warmup_steps

    def prunes(self, case: Case) -> bool:
        """Its best so far of each metric against what complete trials had at this step."""
        if case.step < self.n_warmup_steps:
            return False
        standings = case.standings
        if standings.complete.sum() < self.n_startup_trials:
            return False
        others = standings.complete & standings.reported(case.step)
        rivals = standings.at(case.step)[others]
        if not len(rivals):
            return False
        best = np.fmin.reduce(case.curve)
        return bool(np.isnan(best).any()) or place(best, rivals) > self.share * len(rivals)


def _median(options: MedianOptions, _facts: Facts) -> Percentile:
    return Percentile(50.0, options.n_startup_trials, options.n_warmup_steps)


def _percentile(options: PercentileOptions, _facts: Facts) -> Percentile:
    return Percentile(options.percentile, options.n_startup_trials, options.n_warmup_steps)


MEDIAN = PrunerEntry(options=MedianOptions, build=_median)
PERCENTILE = PrunerEntry(options=PercentileOptions, build=_percentile)
