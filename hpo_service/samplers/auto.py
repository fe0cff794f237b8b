"""Picks the sampler: by the metrics, by the space, and by how many trials there are already."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hpo_service.cube import Cube
from hpo_service.plugins import Options
from hpo_service.samplers.base import Ask, SamplerEntry, Suggestion
from hpo_service.samplers.gp import GP
from hpo_service.samplers.tpe import TPE
from hpo_service.seen import Seen

ENTRIES = {"gp": GP, "tpe": TPE}
# Before so many trials only a Gaussian process makes much of them; after so many it is told of too
# few, and it learns which sides matter from few trials only where there are not many.
ALONE, MOST_TRIALS, MOST_PARAMETERS = 25, 500, 30


class AutoOptions(Options):
    """The samplers that suit metrics, space and number of trials; the study says which and why."""


@dataclass(frozen=True)
class Pick:
    """The samplers of the trials from number `first` on, in turn, and why."""

    first: int
    samplers: tuple[str, ...]
    reason: str


def picks(cube: Cube, n_metrics: int) -> list[Pick]:
    """One after the other, from trial 0 on."""
    size = len(cube.names)
    if n_metrics > 1:
        reason = f"{n_metrics} metrics are weighed by fronts, which a Gaussian process here is not"
        return [Pick(0, ("tpe",), reason)]
    if size > MOST_PARAMETERS:
        reason = f"{size} parameters are too many for a Gaussian process and few trials"
        return [Pick(0, ("tpe",), reason)]
    few = (
        f"with one metric and {size} parameter{'s' if size > 1 else ''} a Gaussian process finds "
        "the good region from the fewest trials"
    )
    some = "densities look where a Gaussian process is too sure of itself, and take less time"
    many = "densities remember the best of many trials, a Gaussian process is told of some only"
    return [
        Pick(0, ("gp",), few),
        Pick(ALONE, ("gp", "tpe"), some),
        Pick(MOST_TRIALS, ("tpe",), many),
    ]


class AutoSampler:
    """Asks the picked ones."""

    def __init__(self, cube: Cube) -> None:
        self.cube = cube
        self._samplers = {name: entry.make(cube, {}) for name, entry in ENTRIES.items()}

    def propose(self, seen: Seen, ask: Ask) -> list[Suggestion]:
        """Those that are picked for the first of the trials take turns; what the one has proposed
        runs already for the next one.
        """
        pick = [p for p in picks(self.cube, seen.metrics) if p.first <= ask.number][-1]
        turns = [pick.samplers[at % len(pick.samplers)] for at in _numbers(ask)]
        found: list[Suggestion] = []
        for name in dict.fromkeys(turns):
            some = self._samplers[name].propose(seen, replace(ask, count=turns.count(name)))
            seen = seen.with_running(self.cube.rows([each.params for each in some]))
            found += some
        return found


def _numbers(ask: Ask) -> range:
    return range(ask.number, ask.number + ask.count)


def _build(cube: Cube, _options: AutoOptions) -> AutoSampler:
    return AutoSampler(cube)


AUTO = SamplerEntry(options=AutoOptions, build=_build, slow=True)
