"""Tree-structured Parzen estimator: proposes where good trials are denser than others.

Bergstra et al., "Algorithms for hyper-parameter optimization" (2011), with densities over all
parameters together: Falkner et al., "BOHB" (2018).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from hpo_service.cube import Cube, Rows
from hpo_service.plugins import Options
from hpo_service.samplers import tpe_data
from hpo_service.samplers.base import Ask, SamplerEntry, Suggestion
from hpo_service.samplers.independent import anywhere
from hpo_service.samplers.tpe_density import Density, Features, Matrix, Points, Vector
from hpo_service.seen import Seen

# The part of each side within which a point is a near copy of a running trial.
NEAR = 0.02
FAILED = 2.0


class TpeOptions(Options):
    """Tree-structured Parzen estimator: densities of good and of other trials (Bergstra, 2011)."""

    n_startup_trials: Annotated[
        int, Field(ge=1, le=10_000, description="Finished trials before the model is asked.")
    ] = 10
    n_ei_candidates: Annotated[
        int, Field(ge=1, le=10_000, description="Points drawn, of which the best is taken.")
    ] = 24


class TpeSampler:
    def __init__(self, cube: Cube, options: TpeOptions) -> None:
        self.cube, self.options = cube, options
        self.features = Features(cube)

    def propose(self, seen: Seen, ask: Ask) -> list[Suggestion]:
        rng = np.random.default_rng(ask.seed)
        data = tpe_data.read(seen, self.options.n_startup_trials)
        good = Density(self.features, data.good, np.ones(len(data.good)))
        bad_rows = np.vstack([data.others, data.running])
        weights = np.r_[np.where(data.failed, FAILED, 1.0), np.ones(len(data.running))]
        bad = Density(self.features, bad_rows, weights)
        fixed = self.cube.rows([ask.fixed])[0]
        n = self.options.n_ei_candidates
        taken = set(keys(seen.rows).tolist())
        found = []
        running = self._points(data.running)
        for _ in range(ask.count):
            rows = self.cube.values(good.sample(n, rng), fixed)
            rows = rows[self.cube.feasible(rows)]
            if not len(rows):
                rows = anywhere(self.cube, fixed, n, rng)
            if not len(rows):
                break
            f = self.features.of(self.cube.positions(rows))
            score = good.log(f) - bad.log(f)
            order = np.argsort(-score, kind="stable")
            row = self._first(rows[order], taken, running)
            taken.add(keys(row[None])[0])
            running = np.vstack([running, self._points(row[None])])
            found.append(Suggestion(self.cube.params(row)))
        return found

    def _points(self, rows):
        p = self.cube.positions(rows)
        return np.where(np.isnan(p), -1, p)

    def _first(self, rows, taken, running):
        new = np.array([k not in taken for k in keys(rows).tolist()])
        reach = np.where(self.cube.unordered, 0.0, NEAR)
        for at in np.flatnonzero(new):
            if not (np.abs(running - self._points(rows[at][None])) <= reach).all(1).any():
                return rows[at]
        return rows[np.flatnonzero(new)[0]] if new.any() else rows[0]


def keys(rows: Rows) -> Vector:
    """A number for each row, the same for equal ones alone as far as anybody will see."""
    weights = np.random.default_rng(0).random(rows.shape[1])
    return np.asarray((np.nan_to_num(rows, nan=-1.0) * weights).sum(1))


def _build(cube: Cube, options: TpeOptions) -> TpeSampler:
    return TpeSampler(cube, options)


TPE = SamplerEntry(options=TpeOptions, build=_build)
