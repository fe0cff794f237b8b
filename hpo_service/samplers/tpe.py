"""Tree-structured Parzen estimator: proposes where good trials are denser than others.

Bergstra et al., "Algorithms for hyper-parameter optimization" (2011), with densities over all
parameters together as in Falkner et al., "BOHB" (2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from typing import Annotated

import numpy as np
from pydantic import Field

from hpo_service.cube import Cube, Rows
from hpo_service.plugins import Options
from hpo_service.samplers import grid, tpe_data
from hpo_service.samplers.base import Ask, SamplerEntry, Suggestion
from hpo_service.samplers.grid import Grid, GridOptions
from hpo_service.samplers.independent import anywhere
from hpo_service.samplers.tpe_density import Axes, Density
from hpo_service.seen import Seen
from hpo_service.space import Params

# How wide the component of a trial that came to nothing is at least, were it alone: its settings
# are likely to be on the wrong side of a border, such as that of the memory.
FAILED = 0.1
# The part of each side within which a point is a near copy of a running trial.
NEAR = 0.02
# Of several trials at once each but the first has so many times fewer candidates.
FOLLOWER = 4
# Where all that is promising has been tried: points all over the space; all of a space so small.
ANYWHERE, SMALL = 64, 4096


class TpeOptions(Options):
    """Tree-structured Parzen estimator: densities of good and of other trials (Bergstra, 2011)."""

    n_startup_trials: Annotated[
        int, Field(ge=1, le=10_000, description="Finished trials before the model is asked.")
    ] = 10
    n_ei_candidates: Annotated[
        int, Field(ge=1, le=10_000, description="Points drawn, of which the best is taken.")
    ] = 128


class TpeSampler:
    """Draws points from the density of good trials; takes one where that of all others is low."""

    def __init__(self, cube: Cube, options: TpeOptions) -> None:
        self.cube, self.options = cube, options
        self.axes, self.taken = Axes(cube), tpe_data.Taken(cube)

    def propose(self, seen: Seen, ask: Ask) -> list[Suggestion]:
        """Points that no trial has, if there are any, and that agree with the fixed parameters.

        Each is chosen as if those before it were bad. None where hardly any is feasible.
        """
        rng = np.random.default_rng(ask.seed)
        judge = _Judge(self.axes, tpe_data.read(seen, self.options.n_startup_trials))
        self.taken.note(seen)
        first = self.options.n_ei_candidates
        ends = first + (first // FOLLOWER + 1) * np.arange(ask.count)
        drawn = judge.good.sample(int(ends[-1]), rng)
        pool = _Pool(judge, self.cube.values(drawn, self.cube.rows([ask.fixed])[0]))
        found: list[Suggestion] = []
        for start, end in pairwise([0, *ends.tolist()]):
            row = self._chosen(judge, self._candidates(judge, pool.ranked(start, end), ask, rng))
            if row is None:
                break
            found.append(Suggestion(self.cube.params(row)))
            if len(found) < ask.count:
                self.taken.add(row)
                judge.add(row)
                pool.avoid(row)
        return found

    def _chosen(self, judge: _Judge, candidates: Iterator[Rows]) -> Rows | None:
        """The first that is new and apart from what runs; else one that is new; else any."""
        near: list[Rows] = []
        known: list[Rows] = []
        for rows in candidates:
            new = self.taken.new(rows)
            for row in rows[new]:
                if judge.apart(row):
                    return np.asarray(row)
            near, known = [*near, *rows[new][:1]], [*known, *rows[:1]]
        rest = [*near, *known]
        return rest[0] if rest else None

    def _candidates(
        self, judge: _Judge, drawn: Rows, ask: Ask, rng: np.random.Generator
    ) -> Iterator[Rows]:
        """Points that meet the constraints, the most promising first; then such as are less so."""
        yield drawn
        fixed = self.cube.rows([ask.fixed])[0]
        yield _Pool(judge, anywhere(self.cube, fixed, ANYWHERE, rng)).ranked()
        yield _Pool(judge, self._every if not ask.fixed else _every(self.cube, ask.fixed)).ranked()

    @cached_property
    def _every(self) -> Rows:
        return _every(self.cube, {})


class _Judge:
    """The densities of good trials and of all others, and which trials run.

    What runs, and what was proposed just now, counts as bad ("constant liar").
    """

    def __init__(self, axes: Axes, data: tpe_data.Data) -> None:
        self.axes, self.cube = axes, axes.cube
        self.good = Density.of(axes, data.good, data.weights)
        least = np.where(data.failed, FAILED, 0.0)
        self.others = Density.of(axes, data.others, np.ones(len(data.others)), least)
        self.running = data.running
        self.reach = np.where(self.cube.unordered, 0.0, NEAR)

    def add(self, row: Rows) -> None:
        """A point that is proposed."""
        self.running = np.vstack([self.running, row])

    def apart(self, row: Rows) -> bool:
        """Whether no running trial has about the same values."""
        apart = np.abs(self.cube.positions(self.running) - self.cube.positions(row[None]))
        same = np.isnan(self.running) & np.isnan(row)
        return not ((apart <= self.reach) | same).all(1).any()


class _Pool:
    """Points (n, parameters) to choose from, judged together."""

    def __init__(self, judge: _Judge, rows: Rows) -> None:
        self.judge, self.rows = judge, rows
        self.features = judge.axes.features(judge.cube.positions(rows))
        self.good = np.where(judge.cube.feasible(rows), judge.good.log(self.features), -np.inf)
        self.bad = judge.others.log(self.features)
        if len(judge.running):
            self.avoid(judge.running)

    def avoid(self, rows: Rows) -> None:
        """Count these points as bad too."""
        running = self.judge.others.with_running(np.atleast_2d(rows))
        self.bad = np.logaddexp(self.bad, running.log(self.features))

    def ranked(self, start: int = 0, end: int | None = None) -> Rows:
        """Those between these places that meet the constraints, the most promising first."""
        gains = (self.good - self.bad)[start:end]
        order = np.argsort(-gains, kind="stable")
        return self.rows[start:end][order[np.isfinite(gains[order])]]


def _every(cube: Cube, fixed: Params) -> Rows:
    """All points with these parameters, where the space has no more than `SMALL`."""
    few = all(cube.edges(at, SMALL) is not None for at in range(len(cube.names)))
    if not few or grid.count(cube.space, GridOptions()) > SMALL:
        return np.empty((0, len(cube.names)))
    points = Grid(cube.space, GridOptions(), fixed)
    return cube.rows([points.point(number) for number in range(len(points))])


def _build(cube: Cube, options: TpeOptions) -> TpeSampler:
    return TpeSampler(cube, options)


TPE = SamplerEntry(options=TpeOptions, build=_build)
