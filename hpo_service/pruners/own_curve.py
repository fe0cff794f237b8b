"""Ends trials by what they report themselves, whatever others did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field

from hpo_service import errors
from hpo_service.plugins import Options
from hpo_service.pruners.base import Case, Facts, PrunerEntry
from hpo_service.seen import Losses

Bounds = float | list[float] | None


class PatienceOptions(Options):
    """Ends a trial that has not got better for a while, in any of its metrics."""

    patience: Annotated[
        int, Field(ge=1, le=10**6, description="Steps without a better value before it ends.")
    ] = 10
    min_delta: Annotated[
        float, Field(ge=0, description="By how much a value has to be better to count as such.")
    ] = 0.0


class ThresholdOptions(Options):
    """Ends a trial with a value outside of bounds, or with one that is not finite."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"upper": 10.0}]})

    lower: Annotated[
        Bounds, Field(description="The lowest value; of several metrics a list, one of each.")
    ] = None
    upper: Annotated[
        Bounds, Field(description="The highest value; of several metrics a list, one of each.")
    ] = None
    n_warmup_steps: Annotated[
        int, Field(ge=0, le=10**6, description="Steps of each trial before it is judged.")
    ] = 0


@dataclass(frozen=True)
class Patience:
    """A trial goes on while one of its last reports was the best so far of a metric."""

    patience: int
    min_delta: float

    def prunes(self, case: Case) -> bool:
        """The best of the last reports against the best before."""
        if len(case.curve) <= self.patience:
            return False
        before = np.fmin.reduce(case.curve[: -self.patience])
        recent = np.fmin.reduce(case.curve[-self.patience :])
        first = np.isnan(before) & ~np.isnan(recent)
        return not (first | (recent < before - self.min_delta)).any()


@dataclass(frozen=True)
class Threshold:
    """`lower` and `upper` (metrics,) bound values, not losses: `signs` tells one from the other."""

    lower: Losses
    upper: Losses
    signs: Losses
    n_warmup_steps: int

    def prunes(self, case: Case) -> bool:
        """NaN is inside of no bounds."""
        values = self.signs * case.losses
        inside = (self.lower <= values) & (values <= self.upper)
        return case.step >= self.n_warmup_steps and not inside.all()


def _patience(options: PatienceOptions, _facts: Facts) -> Patience:
    return Patience(options.patience, options.min_delta)


def _threshold(options: ThresholdOptions, facts: Facts) -> Threshold:
    lower = _each(options.lower, -np.inf, facts.metrics)
    upper = _each(options.upper, np.inf, facts.metrics)
    return Threshold(lower, upper, np.array(facts.signs), options.n_warmup_steps)


def _each(given: Bounds, default: float, metrics: int) -> Losses:
    return np.broadcast_to(np.array(default if given is None else given), (metrics,))


def _check_threshold(options: ThresholdOptions, facts: Facts) -> None:
    if options.lower is None and options.upper is None:
        raise errors.invalid("pruner.upper", "give upper, lower or both: nothing is out of bounds")
    for name, given in (("lower", options.lower), ("upper", options.upper)):
        count = len(given) if isinstance(given, list) else 1
        if given is not None and count != facts.metrics:
            needed = "one number" if facts.metrics == 1 else f"a list of {facts.metrics} numbers"
            raise errors.invalid(f"pruner.{name}", f"give {needed}, a bound of each metric")
    made = _threshold(options, facts)
    if (made.lower > made.upper).any():
        raise errors.invalid("pruner.lower", "is above upper: every value is out of bounds")


PATIENCE = PrunerEntry(options=PatienceOptions, build=_patience, any_length=True)
THRESHOLD = PrunerEntry(
    options=ThresholdOptions, build=_threshold, check_facts=_check_threshold, any_length=True
)
