"""Where an acquisition function is largest: points all over the space, then lineages of the best.

Rows (n, parameters) are those of the cube; only points that meet the constraints are found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpo_service.cube import Cube, Rows
from hpo_service.samplers.independent import anywhere

Gain = Callable[[Rows], NDArray[np.float64]]

CHILDREN = 24
# How far children are from their parents: parts of a side, at first and from round to round.
WIDEST, SHRINK = 0.2, 0.5
# Points all over the space that there are to be, where constraints leave little of it.
AT_LEAST = 64


@dataclass(frozen=True)
class Effort:
    """So many points all over the space, and so many lineages for so many rounds."""

    points: int
    lineages: int
    rounds: int


class Explorer:
    """Looks for one proposal that has what is not NaN in `fixed` (parameters,)."""

    def __init__(self, cube: Cube, fixed: Rows, rng: np.random.Generator, effort: Effort) -> None:
        self.cube, self.fixed, self.rng, self.effort = cube, fixed, rng, effort

    def ranked(self, gain: Gain, incumbents: Rows) -> Rows:
        """From the most promising to the least; none where hardly any point is feasible."""

        def judged(rows: Rows) -> NDArray[np.float64]:
            return np.where(self.cube.feasible(rows), gain(rows), -np.inf)

        incumbents = self.cube.values(self._filled(incumbents), self.fixed)
        rows = self.everywhere()
        gains = judged(rows)
        top = np.argsort(-gains, kind="stable")[: self.effort.lineages - len(incumbents)]
        parents = np.vstack([rows[top], incumbents])
        parent_gains = np.r_[gains[top], judged(incumbents)]
        found, found_gains = [rows, parents], [gains, parent_gains]
        for turn in range(self.effort.rounds if len(parents) else 0):
            children = self._children(parents, WIDEST * SHRINK**turn)
            child_gains = judged(children)
            found.append(children)
            found_gains.append(child_gains)
            parents, parent_gains = _heirs(parents, parent_gains, children, child_gains)
        gains = np.concatenate(found_gains)
        order = np.argsort(-gains, kind="stable")
        return np.vstack(found)[order[np.isfinite(gains[order])]]

    def everywhere(self) -> Rows:
        """A Latin hypercube (McKay et al., 1979): each parameter is covered evenly."""
        count = self.effort.points
        shape = (count, len(self.cube.names))
        cells = self.rng.permuted(np.broadcast_to(np.arange(count)[:, None], shape), axis=0)
        rows = self.cube.values((cells + self.rng.random(shape)) / count, self.fixed)
        rows = rows[self.cube.feasible(rows)]
        if len(rows) < AT_LEAST:
            rows = np.vstack([rows, anywhere(self.cube, self.fixed, AT_LEAST, self.rng)])
        return rows

    def _children(self, parents: Rows, width: float) -> Rows:
        """`CHILDREN` of each row, in order: some parameters moved, by `width` of their side."""
        positions = self._filled(np.repeat(parents, CHILDREN, axis=0))
        n_parameters = positions.shape[1]
        moved = self.rng.random(positions.shape) < max(0.4, 1 / n_parameters)
        moved[np.arange(len(moved)), self.rng.integers(n_parameters, size=len(moved))] = True
        near = np.clip(positions + self.rng.normal(0, width, positions.shape), 0, 1)
        far = self.rng.random(positions.shape)
        # A choice has no neighbours, and a number of few values is rarely moved by little.
        jumps = self.cube.unordered | (self.rng.random(positions.shape) < 0.05)
        return self.cube.values(np.where(moved, np.where(jumps, far, near), positions), self.fixed)

    def _filled(self, rows: Rows) -> Rows:
        """Positions of the rows, with any at all for what is not active."""
        positions = self.cube.positions(rows)
        return np.where(np.isnan(positions), self.rng.random(positions.shape), positions)


def _heirs(
    parents: Rows,
    parent_gains: NDArray[np.float64],
    children: Rows,
    child_gains: NDArray[np.float64],
) -> tuple[Rows, NDArray[np.float64]]:
    """The best of each family, and how good it is."""
    n, lineage = len(parents), np.arange(len(parents))
    members = np.concatenate([parents[:, None], children.reshape(n, CHILDREN, -1)], axis=1)
    gains = np.c_[parent_gains, child_gains.reshape(n, CHILDREN)]
    best = gains.argmax(1)
    return members[lineage, best], gains[lineage, best]
