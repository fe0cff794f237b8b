"""What a sampler declares, and how one is made for each proposal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from optuna.samplers import BaseSampler

from hpo_service import plugins, seeds
from hpo_service.space import Space


class SpaceExhausted(Exception):
    """Every point of the space is in the study: there is nothing left to propose."""


def _any_space(_space: Space, _options: Any) -> None:
    pass


@dataclass(frozen=True)
class SamplerEntry:
    """A way to propose trials.

    `build(space, options, seed)` makes the sampler afresh for each proposal, so that the study's
    rows alone decide what comes next. `check_space` raises `InvalidRequest` where it cannot work.
    """

    options: type[plugins.Options]
    build: Callable[[Space, Any, int], BaseSampler]
    check_space: Callable[[Space, Any], None] = _any_space
    # What its randomness derives from: the trial's number too, or the study's seed alone, where
    # the points of a study form one sequence.
    seeded: Literal["trial", "study"] = "trial"
    multi_objective: bool = True
    # The user has listed what is to be tried: nothing is added to it.
    listed: bool = False

    def check(self, space: Space, options: Mapping[str, Any], n_metrics: int) -> None:
        """Raise `InvalidRequest` unless the sampler can search `space` for so many metrics."""
        parsed = plugins.parse(self.options, options, "sampler")
        if n_metrics > 1 and not self.multi_objective:
            raise plugins.one_metric_only("sampler")
        self.check_space(space, parsed)

    def make(
        self, space: Space, options: Mapping[str, Any], study_seed: int, number: int
    ) -> BaseSampler:
        """The sampler that proposes trial `number`."""
        seed = study_seed if self.seeded == "study" else seeds.sampler_seed(study_seed, number)
        return self.build(space, plugins.parse(self.options, options, "sampler"), seed)
