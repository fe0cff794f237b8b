"""Gaussian process with expected improvement: for tens to hundreds of costly trials.

The model is fitted afresh for each proposal, to a bounded number of trials, so that its cost does
not grow with the study.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpo_service.cube import Cube, Rows
from hpo_service.plugins import Options
from hpo_service.samplers import gp_model as model
from hpo_service.samplers.base import Ask, SamplerEntry, Suggestion
from hpo_service.seen import Seen

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


class GpSampler:
    """Proposes where the improvement on the best trial so far is expected to be largest."""

    def __init__(self, cube: Cube, options: GpOptions) -> None:
        self.cube, self.options = cube, options

    def propose(self, seen: Seen, ask: Ask) -> list[Suggestion]:
        """The most promising points that no trial has and that agree with the fixed parameters."""
        found: list[Suggestion] = []
        for place in range(ask.count):
            suggestion = _Question(
                self, seen, ask, np.random.default_rng([ask.seed, place])
            ).answer()
            found.append(suggestion)
            seen = seen.with_pending(self.cube.rows([suggestion.params]))
        return found


class _Question:
    """One proposal."""

    def __init__(self, sampler: GpSampler, seen: Seen, ask: Ask, rng: np.random.Generator) -> None:
        self.cube, self.options = sampler.cube, sampler.options
        self.seen, self.rng = seen, rng
        self.fixed = self.cube.rows([ask.fixed])[0]

    def answer(self) -> Suggestion:
        complete = np.flatnonzero(self.seen.where("complete"))
        if len(complete) < self.options.n_startup_trials:
            return self._first_new(self._anywhere())
        rows, losses = self._seen(complete)
        if len(losses) < 2:  # trials of another space, added from outside
            return self._first_new(self._anywhere())
        points = self._points(rows)
        found = model.fit(points, losses, self.cube.unordered, self._start())
        posterior = model.Posterior(points, losses, self.cube.unordered, found)
        posterior = self._with_lies(posterior, losses)
        # Believed values count too, or their neighbourhood would still be an improvement.
        best = float(posterior.mean(posterior.points).min())
        incumbents = rows[np.argsort(losses, kind="stable")[: LINEAGES // 2]]
        ranked = self._search(posterior, best, incumbents)
        note = {NOTE: found.log.round(4).tolist()}
        return replace(self._first_new(self._away_from_running(ranked)), attrs=note)

    # --- what is known -----------------------------------------------------------------------

    def _seen(self, complete: NDArray[np.intp]) -> tuple[Rows, model.Vector]:
        """Rows and losses of the trials to fit: standardised, lower is better."""
        losses = self.seen.losses[complete, 0]
        chosen = complete[self._chosen(losses)]
        chosen = chosen[self.seen.legal[chosen]]
        return self.seen.rows[chosen], _standardised(self.seen.losses[chosen, 0])

    def _chosen(self, losses: model.Vector) -> NDArray[np.intp]:
        """Which trials to fit, in order: the best, the newest, and a sample of all others."""
        if len(losses) <= BEST + NEWEST + OTHERS:
            return np.arange(len(losses))
        kept = np.zeros(len(losses), dtype=bool)
        kept[np.argsort(losses, kind="stable")[:BEST]] = True
        kept[np.flatnonzero(~kept)[-NEWEST:]] = True
        kept[self.rng.choice(np.flatnonzero(~kept), OTHERS, replace=False)] = True
        return np.flatnonzero(kept)

    def _start(self) -> model.Hyperparameters | None:
        """The hyperparameters of the newest trial that notes some for this space."""
        for attrs in reversed(self.seen.attrs):
            note = attrs.get(NOTE)
            if note is not None and len(note) == len(self.cube.names) + 2:
                return model.Hyperparameters(np.array(note, dtype=np.float64))
        return None

    def _with_lies(self, posterior: model.Posterior, losses: model.Vector) -> model.Posterior:
        """As if the trials without a value had the expected one ("kriging believer").

        Ginsbourger et al., "Kriging is well-suited to parallelize optimization" (2010). What failed
        or was stopped is believed to be no better than the middle of the others.
        """
        without = np.flatnonzero(~self.seen.where("complete") & self.seen.legal)[-WITHOUT_VALUE:]
        if not len(without):
            return posterior
        points = self._points(self.seen.rows[without])
        ended = ~self.seen.where("waiting", "running")[without]
        lies = posterior.mean(points)
        lies[ended] = np.maximum(lies[ended], np.median(losses))
        return model.Posterior(
            np.vstack([posterior.points, points]),
            np.r_[losses, lies],
            posterior.unordered,
            posterior.given,
        )

    # --- where to go -------------------------------------------------------------------------

    def _search(self, posterior: model.Posterior, best: float, incumbents: Rows) -> Rows:
        """Rows from the most promising to the least: all over the space, then lineages."""

        def gain(rows: Rows) -> model.Vector:
            return model.log_expected_improvement(
                *posterior.mean_and_deviation(self._points(rows)), best
            )

        rows = self._anywhere()
        gains = gain(rows)
        incumbents = self.cube.values(self._filled(incumbents), self.fixed)
        top = np.argsort(-gains, kind="stable")[: LINEAGES - len(incumbents)]
        parents = np.vstack([rows[top], incumbents])
        parent_gains = np.r_[gains[top], gain(incumbents)]
        found, found_gains = [rows, parents], [gains, parent_gains]
        for turn in range(ROUNDS):
            children = self._children(parents, WIDEST * SHRINK**turn)
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

    def _anywhere(self) -> Rows:
        """A Latin hypercube (McKay et al., 1979): each parameter is covered evenly."""
        shape = (CANDIDATES, len(self.cube.names))
        cells = self.rng.permuted(np.broadcast_to(np.arange(CANDIDATES)[:, None], shape), axis=0)
        return self.cube.values((cells + self.rng.random(shape)) / CANDIDATES, self.fixed)

    def _children(self, parents: Rows, width: float) -> Rows:
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
        return self.cube.values(np.where(moved, np.where(jumps, far, near), positions), self.fixed)

    def _filled(self, rows: Rows) -> Rows:
        """Positions of the rows, with any at all for what is not active."""
        positions = self.cube.positions(rows)
        return np.where(np.isnan(positions), self.rng.random(positions.shape), positions)

    def _points(self, rows: Rows) -> model.Points:
        """Positions as the model takes them: what is not active is in the middle, or no choice."""
        positions = self.cube.positions(rows)
        return np.where(np.isnan(positions), np.where(self.cube.unordered, -1.0, 0.5), positions)

    def _away_from_running(self, rows: Rows) -> Rows:
        """Those of the rows that are no near copies of a running trial, if there are any.

        A model that is sure of the optimum sends all workers there, whatever it believes of them.
        """
        running = self.seen.rows[self.seen.where("running") & self.seen.legal]
        points, near = self._points(rows), np.zeros(len(rows), dtype=bool)
        reach = np.where(self.cube.unordered, 0.0, NEAR)
        for other in self._points(running):
            near |= (np.abs(points - other) <= reach).all(1)
        return rows if near.all() else rows[~near]

    def _first_new(self, rows: Rows) -> Suggestion:
        """The first row that no trial has; the very first where all are taken."""
        for row in rows:
            same = (self.seen.rows == row) | (np.isnan(self.seen.rows) & np.isnan(row))
            if not same.all(1).any():
                return Suggestion(self.cube.params(row))
        return Suggestion(self.cube.params(rows[0]))


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


def _build(cube: Cube, options: GpOptions) -> GpSampler:
    return GpSampler(cube, options)


GP = SamplerEntry(options=GpOptions, build=_build, multi_objective=False, slow=True)
