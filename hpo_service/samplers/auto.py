"""Picks the sampler: by the metrics, by the space, and by how many trials there are already."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_service.cube import Cube
from hpo_service.plugins import Options
from hpo_service.samplers.base import Ask, Sampler, SamplerEntry, Suggestion
from hpo_service.samplers.gp import GP
from hpo_service.samplers.tpe import TPE
from hpo_service.seen import Seen

ENTRIES = {"gp": GP, "tpe": TPE}
# A Gaussian process is told of a bounded number of trials, and of so many sides at most it learns
# which ones matter from few trials.
MOST_TRIALS, MOST_PARAMETERS = 500, 30


class AutoOptions(Options):
    """The sampler that suits metrics, space and number of trials; the study says which and why."""


@dataclass(frozen=True)
class Pick:
    """The sampler of the trials from number `first` on, and why."""

    first: int
    sampler: str
    reason: str


def picks(cube: Cube, n_metrics: int) -> list[Pick]:
    """One after the other, from trial 0 on."""
    size = len(cube.names)
    if n_metrics > 1:
        reason = f"{n_metrics} metrics are weighed by fronts, which a Gaussian process here is not"
        return [Pick(0, "tpe", reason)]
    if size > MOST_PARAMETERS:
        reason = f"{size} parameters are too many for a Gaussian process and few trials"
        return [Pick(0, "tpe", reason)]
    few = (
        f"of one metric and {size} parameter{'s' if size > 1 else ''} a Gaussian process finds "
        f"better settings than other samplers in up to {MOST_TRIALS} trials"
    )
    many = "a Gaussian process is told of some of the trials only, densities remember the best"
    return [Pick(0, "gp", few), Pick(MOST_TRIALS, "tpe", many)]


class AutoSampler:
    """Asks the picked one."""

    def __init__(self, cube: Cube) -> None:
        self.cube = cube
        self._samplers: dict[str, Sampler] = {}

    def propose(self, seen: Seen, ask: Ask) -> list[Suggestion]:
        """As the sampler does that is picked for the first of the trials."""
        pick = [p for p in picks(self.cube, seen.metrics) if p.first <= ask.number][-1]
        if pick.sampler not in self._samplers:
            self._samplers[pick.sampler] = ENTRIES[pick.sampler].make(self.cube, {})
        return self._samplers[pick.sampler].propose(seen, ask)


def _build(cube: Cube, _options: AutoOptions) -> AutoSampler:
    return AutoSampler(cube)


AUTO = SamplerEntry(options=AutoOptions, build=_build, slow=True)
