"""What a sampler declares, what it is asked, and how it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from hpo_service import plugins, seeds
from hpo_service.cube import Cube
from hpo_service.seen import Attrs, Seen
from hpo_service.space import Params


@dataclass(frozen=True)
class Ask:
    """`count` trials at once, all with these `fixed` parameters; the first gets `number`.

    All randomness derives from `seed`.
    """

    number: int
    seed: int
    count: int = 1
    fixed: Params = field(default_factory=dict)


@dataclass(frozen=True)
class Suggestion:
    """All active parameters of a trial, and what the sampler notes on it and on the study."""

    params: Params
    attrs: Attrs = field(default_factory=dict)
    study_attrs: Attrs = field(default_factory=dict)


class Sampler(Protocol):
    """Proposes trials of one study.

    It is kept as long as nothing finished is edited and may remember what it derived from finished
    trials, but must answer like one made afresh: the study's rows alone decide.
    """

    def propose(self, seen: Seen, ask: Ask) -> list[Suggestion]:
        """So many trials; fewer, or none, where the space has no more points to try."""


def _any_space(_cube: Cube, _options: Any) -> None:
    pass


@dataclass(frozen=True)
class SamplerEntry:
    """A way to propose trials.

    `build(cube, options)` makes the sampler of a study. `check_space` raises `InvalidRequest` where
    it cannot work.
    """

    options: type[plugins.Options]
    build: Callable[[Cube, Any], Sampler]
    check_space: Callable[[Cube, Any], None] = _any_space
    # What its randomness derives from: the trial's number too, or the study's seed alone, where
    # the points of a study form one sequence.
    seeded: Literal["trial", "study"] = "trial"
    multi_objective: bool = True
    # The user has listed what is to be tried: nothing is added to it.
    listed: bool = False
    # It looks at no other trial.
    blind: bool = False
    # It takes long enough that trials are prepared for callers who come while it is at work.
    slow: bool = False

    def check(self, cube: Cube, options: Mapping[str, Any], n_metrics: int) -> None:
        """Raise `InvalidRequest` unless the sampler can search the space for so many metrics."""
        parsed = plugins.parse(self.options, options, "sampler")
        if n_metrics > 1 and not self.multi_objective:
            raise plugins.one_metric_only("sampler")
        self.check_space(cube, parsed)

    def make(self, cube: Cube, options: Mapping[str, Any]) -> Sampler:
        """The sampler of one study."""
        return self.build(cube, plugins.parse(self.options, options, "sampler"))

    def seed(self, study_seed: int, number: int) -> int:
        """What the proposal of trial `number` derives its randomness from."""
        return study_seed if self.seeded == "study" else seeds.sampler_seed(study_seed, number)
