"""Quasi-random search: the points of one scrambled Sobol sequence, trial n the nth of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
from scipy.stats import qmc

from hpo_service.cube import Cube, Rows
from hpo_service.plugins import Options
from hpo_service.samplers.base import Ask, SamplerEntry, Suggestion
from hpo_service.seen import Seen

# Drawn at a time: a power of two, so that each block is as even as the sequence can be.
BLOCK = 64
# So many blocks without a point that meets the constraints end the search for one.
BARREN = 200


class SobolOptions(Options):
    """A scrambled Sobol sequence (Sobol 1967, Owen 1998): covers the space more evenly."""


class SobolSampler:
    """Trial n gets the nth point of the sequence that meets the constraints.

    Two studies of one seed and one space get the same points, whatever the trials have shown.
    """

    def __init__(self, cube: Cube) -> None:
        self.cube = cube
        self._engine: qmc.Sobol | None = None
        # Seed and first point of the block that was drawn last, and its points.
        self._at, self._points = (-1, -1), np.empty((0, 0))

    def propose(self, seen: Seen, ask: Ask) -> list[Suggestion]:
        """The points of these numbers; fewer where hardly any point meets the constraints."""
        fixed = self.cube.rows([ask.fixed])[0]
        rows = islice(self._rows(ask, fixed), ask.count)
        return [Suggestion(self.cube.params(row)) for row in rows]

    def _rows(self, ask: Ask, fixed: Rows) -> Iterator[Rows]:
        """The sequence from point `ask.number` on, of the points that meet the constraints."""
        # Without constraints the place of a point is known, with them those before are counted.
        first = 0 if self.cube.constraints else ask.number // BLOCK * BLOCK
        before, barren = ask.number - first, 0
        while barren < BARREN:
            rows = self.cube.values(self._block(ask.seed, first), fixed)
            rows = rows[self.cube.feasible(rows)]
            barren = 0 if len(rows) else barren + 1
            yield from rows[before:]
            before = max(before - len(rows), 0)
            first += BLOCK

    def _block(self, seed: int, first: int) -> Rows:
        """The points from the `first` on; the next trial's is mostly in the block drawn last."""
        if self._at != (seed, first):
            if self._engine is None or self._at != (seed, first - BLOCK):
                self._engine = qmc.Sobol(len(self.cube.names), rng=np.random.default_rng(seed))
                if first:
                    self._engine.fast_forward(first)
            self._at, self._points = (seed, first), self._engine.random(BLOCK)
        return self._points


def _build(cube: Cube, _options: SobolOptions) -> SobolSampler:
    return SobolSampler(cube)


SOBOL = SamplerEntry(options=SobolOptions, build=_build, seeded="study", blind=True)
