"""Gaussian process with expected improvement: for tens to hundreds of costly trials.

The model is fitted afresh for each request, to a bounded number of trials, so that its cost does
not grow with the study.
"""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import numpy as np
from pydantic import Field

from hpo_service.cube import Cube, Rows
from hpo_service.plugins import Options
from hpo_service.samplers import gp_data
from hpo_service.samplers import gp_model as model
from hpo_service.samplers.base import Ask, SamplerEntry, Suggestion
from hpo_service.samplers.gp_search import Effort, Explorer
from hpo_service.seen import Seen

# For the first trial of a request, and for the others, whose model is a little older.
FIRST, FOLLOWER = (
    Effort(points=1024, lineages=8, rounds=9),
    Effort(points=128, lineages=3, rounds=4),
)
# The part of each side within which a point is a near copy of a running trial.
NEAR = 0.02
# Where a trial notes the model it was proposed with: the next fit begins there.
NOTE = "gp:log_hyperparameters"
# The newest trials, among which such a note is looked for.
NOTES = 100


class GpOptions(Options):
    """Gaussian process with expected improvement (Snoek, 2012): for tens of costly trials."""

    n_startup_trials: Annotated[
        int, Field(ge=1, le=10_000, description="Finished trials before the model is asked.")
    ] = 10


class GpSampler:
    """Proposes where the improvement on the best trial so far is expected to be largest."""

    def __init__(self, cube: Cube, options: GpOptions) -> None:
        self.cube, self.options = cube, options

    def propose(self, seen: Seen, ask: Ask) -> list[Suggestion]:
        """The most promising points that no trial has and that agree with the fixed parameters.

        Each is chosen as if those before it had the expected value.
        """
        data = gp_data.read(seen, np.random.default_rng(ask.seed))
        choice = _Choice(self.cube, seen, data)
        finished = np.count_nonzero(seen.where("complete", "pruned"))
        if finished < self.options.n_startup_trials or len(data.values) < 2:
            return self._evenly(ask, choice)
        points = points_of(self.cube, data.rows)
        given = model.fit(points, data.values, data.noise, self.cube.unordered, self._start(seen))
        posterior = model.Posterior.of(points, data.values, data.noise, self.cube.unordered, given)
        return self._best(ask, choice, data, self._with_lies(posterior, data))

    def _evenly(self, ask: Ask, choice: _Choice) -> list[Suggestion]:
        found: list[Suggestion] = []
        for place in range(ask.count):
            rows = self._explorer(ask, place).everywhere()
            if not len(rows):
                break
            found.append(Suggestion(self.cube.params(choice.take(rows))))
        return found

    def _best(
        self, ask: Ask, choice: _Choice, data: gp_data.Data, posterior: model.Posterior
    ) -> list[Suggestion]:
        found: list[Suggestion] = []
        note = {NOTE: posterior.given.log.round(4).tolist()}
        # Believed values count too, or their neighbourhood would still be an improvement.
        best = float(posterior.mean(posterior.points).min())
        for place in range(ask.count):
            explorer = self._explorer(ask, place)
            incumbents = data.best(explorer.effort.lineages // 2)
            rows = explorer.ranked(_Gain(self.cube, posterior, best), incumbents)
            if not len(rows):
                break
            row = choice.take(rows)
            found.append(Suggestion(self.cube.params(row), note))
            if place + 1 < ask.count:
                point = points_of(self.cube, row[None])
                believed = posterior.mean(point)
                posterior, best = posterior.extended(point, believed), min(best, float(believed[0]))
        return found

    def _explorer(self, ask: Ask, place: int) -> Explorer:
        rng, fixed = np.random.default_rng([ask.seed, place]), self.cube.rows([ask.fixed])[0]
        return Explorer(self.cube, fixed, rng, FOLLOWER if place else FIRST)

    def _start(self, seen: Seen) -> model.Hyperparameters | None:
        """The hyperparameters that one of the newest trials notes for this space."""
        for attrs in islice(reversed(seen.attrs), NOTES):
            note = attrs.get(NOTE)
            if note is not None and len(note) == len(self.cube.names) + 2:
                return model.Hyperparameters(np.array(note, dtype=np.float64))
        return None

    def _with_lies(self, posterior: model.Posterior, data: gp_data.Data) -> model.Posterior:
        """As if the trials without a value had the expected one ("kriging believer").

        Ginsbourger et al., "Kriging is well-suited to parallelize optimization" (2010). What came
        to nothing is believed to be no better than the middle of the others.
        """
        failed, running = points_of(self.cube, data.failed), points_of(self.cube, data.running)
        lies = np.maximum(posterior.mean(failed), np.median(data.values))
        posterior = posterior.extended(failed, lies)
        return posterior.extended(running, posterior.mean(running))


class _Gain:
    """The expected improvement at rows, as a logarithm."""

    def __init__(self, cube: Cube, posterior: model.Posterior, best: float) -> None:
        self.cube, self.posterior, self.best = cube, posterior, best

    def __call__(self, rows: Rows) -> model.Vector:
        mean, deviation = self.posterior.mean_and_deviation(points_of(self.cube, rows))
        return model.log_expected_improvement(mean, deviation, self.best)


class _Choice:
    """Takes one of ranked rows after the other, each new and at a distance from what runs."""

    def __init__(self, cube: Cube, seen: Seen, data: gp_data.Data) -> None:
        self.cube = cube
        self.taken = _keys(seen.rows)
        self.running = points_of(cube, data.running)
        self.reach = np.where(cube.unordered, 0.0, NEAR)

    def take(self, rows: Rows) -> Rows:
        """The first that no trial has and that is no near copy of a running one, if there is any.

        A model that is sure of the optimum sends all workers there, whatever it believes of them.
        """
        found = self._first(rows)
        self.taken = np.r_[self.taken, _keys(found[None])]
        self.running = np.vstack([self.running, points_of(self.cube, found[None])])
        return found

    def _first(self, rows: Rows) -> Rows:
        new = np.flatnonzero(~np.isin(_keys(rows), self.taken))
        for at, point in zip(new, points_of(self.cube, rows[new]), strict=True):
            if not (np.abs(self.running - point) <= self.reach).all(1).any():
                return np.asarray(rows[at])
        return np.asarray(rows[new[0]] if len(new) else rows[0])


def points_of(cube: Cube, rows: Rows) -> model.Points:
    """Positions as the model takes them: what is not active is in the middle, or no choice."""
    positions = cube.positions(rows)
    return np.where(np.isnan(positions), np.where(cube.unordered, -1.0, 0.5), positions)


def _keys(rows: Rows) -> model.Vector:
    """A number for each row, the same for equal ones alone as far as anybody will see."""
    weights = np.random.default_rng(0).random(rows.shape[1])
    return np.asarray((np.nan_to_num(rows, nan=-1.0) * weights).sum(1))


def _build(cube: Cube, options: GpOptions) -> GpSampler:
    return GpSampler(cube, options)


GP = SamplerEntry(options=GpOptions, build=_build, multi_objective=False, slow=True)
