"""Random search: each trial independent of all others."""

from __future__ import annotations

import numpy as np

from hpo_service.cube import Cube, Rows
from hpo_service.plugins import Options
from hpo_service.samplers.base import Ask, SamplerEntry, Suggestion
from hpo_service.seen import Seen

# Drawn at a time, and how often, where constraints leave little of the space.
DRAWN, TIMES = 64, 200


class RandomOptions(Options):
    """Each trial independent of all others (Bergstra and Bengio, 2012)."""


class RandomSampler:
    """Draws evenly from the cube, so from a range in logarithms where that is log."""

    def __init__(self, cube: Cube) -> None:
        self.cube = cube

    def propose(self, seen: Seen, ask: Ask) -> list[Suggestion]:
        """Points that meet the constraints; none where hardly any point does."""
        rng = np.random.default_rng(ask.seed)
        rows = anywhere(self.cube, self.cube.rows([ask.fixed])[0], ask.count, rng)
        return [Suggestion(self.cube.params(row)) for row in rows]


def anywhere(cube: Cube, fixed: Rows, count: int, rng: np.random.Generator) -> Rows:
    """Random points (up to `count`, parameters) that meet the constraints and are `fixed` so."""
    found = cube.values(rng.random((count, len(cube.names))), fixed)
    if not cube.constraints:
        return found
    found = found[cube.feasible(found)]
    for _ in range(TIMES):
        if len(found) >= count:
            break
        more = cube.values(rng.random((DRAWN, len(cube.names))), fixed)
        found = np.vstack([found, more[cube.feasible(more)]])
    return found[:count]


def _build(cube: Cube, _options: RandomOptions) -> RandomSampler:
    return RandomSampler(cube)


RANDOM = SamplerEntry(options=RandomOptions, build=_build, blind=True)
