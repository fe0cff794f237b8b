"""Gaussian process with expected improvement: for tens to hundreds of costly trials.

The model is fitted afresh for each proposal, to a bounded number of trials, so that its cost does
not grow with the study.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState
from pydantic import Field

from hpo_service import space
from hpo_service.plugins import Options
from hpo_service.protocol import ParamValue
from hpo_service.samplers import gp_model as model
from hpo_service.samplers.base import SamplerEntry
from hpo_service.samplers.cube import Cube, Rows
from hpo_service.space import Space

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

# Trials that the model is fitted to: so many of the best, of the newest, and of all others.
BEST, NEWEST, OTHERS = 100, 100, 100
# Trials without a value that it keeps away from.
WITHOUT_VALUE = 100
# Points that are compared: first all over the space, then around the best of them, ever nearer.
CANDIDATES = 1024
LINEAGES, CHILDREN, ROUNDS = 8, 24, 9
WIDEST, SHRINK = 0.2, 0.5
# The part of each side within which a point is a near copy of a running trial.
NEAR = 0.02
# Where a trial notes the model it was proposed with: the next fit begins there.
NOTE = "gp:log_hyperparameters"


class GpOptions(Options):
    """Gaussian process with expected improvement (Snoek, 2012): for tens of costly trials."""

    n_startup_trials: Annotated[
        int, Field(ge=1, le=10_000, description="Finished trials before the model is asked.")
    ] = 10


class GpSampler(BaseSampler):
    """Proposes where the improvement on the best trial so far is expected to be largest."""

    def __init__(self, searched: Space, options: GpOptions, seed: int) -> None:
        self.space = searched
        self.options = options
        self.cube = Cube(searched)
        self.rng = np.random.default_rng(seed)
        self.independent = RandomSampler(seed)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return space.distributions(self.space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, ParamValue]:
        """The most promising point that no trial has and that agrees with the fixed parameters."""
        fixed = self.cube.rows([trial.system_attrs.get("fixed_params", {})])[0]
        trials = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        complete = [t for t in trials if t.state == TrialState.COMPLETE]
        if len(complete) < self.options.n_startup_trials:
            return self._first_new(self._anywhere(fixed), trials)
        seen, losses = self._seen(study, complete)
        if len(losses) < 2:  # trials of another space, added from outside
            return self._first_new(self._anywhere(fixed), trials)
        points = self._points(seen)
        found = model.fit(points, losses, self.cube.unordered, self._start(trials))
        study._storage.set_trial_system_attr(trial._trial_id, NOTE, found.log.round(4).tolist())
        posterior = model.Posterior(points, losses, self.cube.unordered, found)
        posterior = self._with_lies(posterior, losses, trials)
        # Believed values count too, or their neighbourhood would still be an improvement.
        best = float(posterior.mean(posterior.points).min())
        incumbents = seen[np.argsort(losses, kind="stable")[: LINEAGES // 2]]
        ranked = self._search(posterior, best, incumbents, fixed)
        return self._first_new(self._away_from_running(ranked, trials), trials)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """At random: only what a trial's fixed parameters left active against all expectation."""
        return self.independent.sample_independent(study, trial, param_name, param_distribution)

    # --- what is known -----------------------------------------------------------------------

    def _seen(self, study: Study, complete: list[FrozenTrial]) -> tuple[Rows, model.Vector]:
        """Rows and losses of the trials to fit: standardised, lower is better."""
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        losses = sign * np.array([t.value for t in complete], dtype=np.float64)
        chosen = self._chosen(losses)
        rows = self.cube.rows(complete[i].params for i in chosen)
        legal = self.cube.legal(rows)
        return rows[legal], _standardised(losses[chosen][legal])

    def _chosen(self, losses: model.Vector) -> NDArray[np.intp]:
        """Which trials to fit, in order: the best, the newest, and a sample of all others."""
        if len(losses) <= BEST + NEWEST + OTHERS:
            return np.arange(len(losses))
        kept = np.zeros(len(losses), dtype=bool)
        kept[np.argsort(losses, kind="stable")[:BEST]] = True
        kept[np.flatnonzero(~kept)[-NEWEST:]] = True
        kept[self.rng.choice(np.flatnonzero(~kept), OTHERS, replace=False)] = True
        return np.flatnonzero(kept)

    def _start(self, trials: Sequence[FrozenTrial]) -> model.Hyperparameters | None:
        """The hyperparameters of the newest trial that notes some for this space."""
        for trial in reversed(trials):
            note = trial.system_attrs.get(NOTE)
            if note is not None and len(note) == len(self.cube.names) + 2:
                return model.Hyperparameters(np.array(note, dtype=np.float64))
        return None

    def _with_lies(
        self, posterior: model.Posterior, losses: model.Vector, trials: Sequence[FrozenTrial]
    ) -> model.Posterior:
        """As if the trials without a value had the expected one ("kriging believer").

        Ginsbourger et al., "Kriging is well-suited to parallelize optimization" (2010). What failed
        or was stopped is believed to be no better than the middle of the others.
        """
        without = [t for t in trials if t.state != TrialState.COMPLETE][-WITHOUT_VALUE:]
        rows = self.cube.rows(t.params for t in without)
        legal = self.cube.legal(rows)
        if not legal.any():
            return posterior
        points = self._points(rows[legal])
        ended = np.array([t.state.is_finished() for t in without])[legal]
        lies = posterior.mean(points)
        lies[ended] = np.maximum(lies[ended], np.median(losses))
        return model.Posterior(
            np.vstack([posterior.points, points]),
            np.r_[losses, lies],
            posterior.unordered,
            posterior.given,
        )

    # --- where to go -------------------------------------------------------------------------

    def _search(
        self, posterior: model.Posterior, best: float, incumbents: Rows, fixed: Rows
    ) -> Rows:
        """Rows from the most promising to the least: all over the space, then lineages."""

        def gain(rows: Rows) -> model.Vector:
            return model.log_expected_improvement(
                *posterior.mean_and_deviation(self._points(rows)), best
            )

        rows = self._anywhere(fixed)
        gains = gain(rows)
        incumbents = self.cube.values(self._filled(incumbents), fixed)
        top = np.argsort(-gains, kind="stable")[: LINEAGES - len(incumbents)]
        parents = np.vstack([rows[top], incumbents])
        parent_gains = np.r_[gains[top], gain(incumbents)]
        found, found_gains = [rows, parents], [gains, parent_gains]
        for turn in range(ROUNDS):
            children = self._children(parents, WIDEST * SHRINK**turn, fixed)
            child_gains = gain(children)
            found.append(children)
            found_gains.append(child_gains)
            family = np.c_[parent_gains, child_gains.reshape(len(parents), CHILDREN)]
            members = np.concatenate(
                [parents[:, None], children.reshape(len(parents), CHILDREN, -1)], axis=1
            )
            heirs = family.argmax(1)
            parents = members[np.arange(len(parents)), heirs]
            parent_gains = family.max(1)
        return np.vstack(found)[np.argsort(-np.concatenate(found_gains), kind="stable")]

    def _anywhere(self, fixed: Rows) -> Rows:
        """A Latin hypercube (McKay et al., 1979): each parameter is covered evenly."""
        shape = (CANDIDATES, len(self.cube.names))
        cells = self.rng.permuted(np.broadcast_to(np.arange(CANDIDATES)[:, None], shape), axis=0)
        return self.cube.values((cells + self.rng.random(shape)) / CANDIDATES, fixed)

    def _children(self, parents: Rows, width: float, fixed: Rows) -> Rows:
        """`CHILDREN` of each row, in order: some parameters moved, by `width` of their side."""
        positions = self._filled(np.repeat(parents, CHILDREN, axis=0))
        n_parameters = positions.shape[1]
        moved = self.rng.random(positions.shape) < max(0.4, 1 / n_parameters)
        moved[np.arange(len(moved)), self.rng.integers(n_parameters, size=len(moved))] = True
        moves = self.rng.normal(0, width, positions.shape)
        near = np.clip(positions + moves, 0, 1)
        far = self.rng.random(positions.shape)
        # A choice has no neighbours, and a number of few values is rarely moved by little.
        jumps = self.cube.unordered | (self.rng.random(positions.shape) < 0.05)
        return self.cube.values(np.where(moved, np.where(jumps, far, near), positions), fixed)

    def _filled(self, rows: Rows) -> Rows:
        """Positions of the rows, with any at all for what is not active."""
        positions = self.cube.positions(rows)
        return np.where(np.isnan(positions), self.rng.random(positions.shape), positions)

    def _points(self, rows: Rows) -> model.Points:
        """Positions as the model takes them: what is not active is in the middle, or no choice."""
        positions = self.cube.positions(rows)
        return np.where(np.isnan(positions), np.where(self.cube.unordered, -1.0, 0.5), positions)

    def _away_from_running(self, rows: Rows, trials: Sequence[FrozenTrial]) -> Rows:
        """Those of the rows that are no near copies of a running trial, if there are any.

        A model that is sure of the optimum sends all workers there, whatever it believes of them.
        """
        running = self.cube.rows(t.params for t in trials if t.state == TrialState.RUNNING)
        points, near = self._points(rows), np.zeros(len(rows), dtype=bool)
        reach = np.where(self.cube.unordered, 0.0, NEAR)
        for other in self._points(running[self.cube.legal(running)]):
            near |= (np.abs(points - other) <= reach).all(1)
        return rows if near.all() else rows[~near]

    def _first_new(self, rows: Rows, trials: Sequence[FrozenTrial]) -> dict[str, ParamValue]:
        """The first row that no trial has; the very first where all are taken."""
        taken = {frozenset(t.params.items()) for t in trials}
        for row in rows:
            params = self.cube.params(row)
            if frozenset(params.items()) not in taken:
                return params
        return self.cube.params(rows[0])


def _standardised(losses: model.Vector) -> model.Vector:
    """Mean 0, deviation 1, after outliers on the bad side were drawn in.

    A model is to tell good trials apart; one diverged trial must not make all others equal.
    """
    finite = losses[np.isfinite(losses)]
    if not len(finite):
        return np.zeros(len(losses))
    losses = np.clip(losses, finite.min(), finite.max())
    losses = losses / (np.abs(losses).max() or 1.0)
    quarter, three_quarters = np.quantile(losses, [0.25, 0.75])
    if three_quarters > quarter:
        losses = np.minimum(losses, three_quarters + 1.5 * (three_quarters - quarter))
    losses = losses - losses.mean()
    deviation = float(losses.std())
    return losses / deviation if deviation > 1e-12 else np.zeros(len(losses))


def _build(searched: Space, options: GpOptions, seed: int) -> BaseSampler:
    return GpSampler(searched, options, seed)


GP = SamplerEntry(options=GpOptions, build=_build, multi_objective=False)
