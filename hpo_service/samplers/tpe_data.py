"""What TPE learns from a study: the best trials, and a bounded number of all others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from math import ceil

import numpy as np
from numpy.typing import NDArray

from hpo_service import dominance
from hpo_service.cube import Cube, Rows
from hpo_service.seen import CODES, Losses, Mask, Seen

Indices = NDArray[np.intp]
Vector = NDArray[np.float64]

# The best trials, which are kept for ever: this part of all, and no more than so many.
SHARE, BEST = 0.15, 25
# All others: the newest, and some of those before them, evenly spread over the study.
NEWEST, OLDER = 500, 500
# Trials of several losses that are compared with each other: the newest.
COMPARED = 500
# Positions closer than this are the same: much less than two values can be apart.
GRAIN = 1.0123e-9


@dataclass(frozen=True)
class Data:
    """Rows of the cube: good trials, the best first; all others by number; those that run.

    `weights` (good,): how much each counts; `failed` (others,): which came to nothing.
    """

    good: Rows
    weights: Vector
    others: Rows
    failed: Mask
    running: Rows


def read(seen: Seen, n_startup_trials: int) -> Data:
    """The trials that are points of the space.

    Before so many have ended with a loss none counts as good: too little is known to tell.
    """
    pruned = (seen.states == CODES["pruned"]) & seen.legal
    complete = (seen.states == CODES["complete"]) & seen.legal
    complete &= ~reduce(np.logical_or, np.isnan(seen.losses.T))
    judged, good = complete | pruned, np.empty(0, dtype=np.intp)
    if (n_judged := np.count_nonzero(judged)) >= n_startup_trials:
        good = _best(seen, complete, pruned, min(ceil(SHARE * n_judged), BEST))
    rest = seen.legal & ~seen.pending
    rest[good] = False
    others = _spread(np.flatnonzero(rest))
    return Data(
        good=seen.rows[good],
        weights=_weights(len(good)) if seen.metrics == 1 else np.ones(len(good)),
        others=seen.rows[others],
        failed=~judged[others],
        running=seen.rows[np.flatnonzero(seen.legal & seen.pending)[-NEWEST:]],
    )


def _weights(count: int) -> Vector:
    """From 2 for the best down to almost nothing for the last; of mean 1."""
    return 2 * (count - np.arange(count)) / (count + 1)


def _spread(numbers: Indices) -> Indices:
    """The newest, and of those before them each so many-th."""
    if len(numbers) <= NEWEST + OLDER:
        return numbers
    older, newest = numbers[:-NEWEST], numbers[-NEWEST:]
    return np.concatenate([older[:: ceil(len(older) / OLDER)], newest])


# --- order ----------------------------------------------------------------------------------


def _best(seen: Seen, complete: Mask, pruned: Mask, count: int) -> Indices:
    """The best trials, the best first."""
    found = np.empty(0, dtype=np.intp)
    for numbers in _groups(seen, complete, pruned):
        if len(found) >= count:
            break
        found = np.r_[found, _first(seen, numbers, count - len(found))]
    return found


def _groups(seen: Seen, complete: Mask, pruned: Mask) -> Iterator[Indices]:
    """Trials whose losses can be compared, those that got further before others."""
    yield np.flatnonzero(complete)
    numbers = np.flatnonzero(pruned)
    steps = seen.steps[numbers]
    for step in np.unique(steps)[::-1]:
        yield numbers[steps == step]


def _first(seen: Seen, numbers: Indices, count: int) -> Indices:
    """So many of the best of these, the best first."""
    if seen.metrics == 1 and len(numbers) > count:
        kept = np.sort(np.argpartition(seen.losses[:, 0][numbers], count - 1)[:count])
        numbers = numbers[kept]
    elif seen.metrics > 1 and len(numbers) > COMPARED:
        leading = numbers[_leading(seen.losses[numbers])]
        numbers = np.union1d(leading, numbers[-COMPARED:])
    return numbers[dominance.order(seen.losses[numbers])[:count]]


def _leading(losses: Losses) -> Indices:
    """Some of the first front, spread over it: the best trial in each of some directions.

    By the largest weighted loss (Chebyshev), which finds the concave parts of a front too.
    """
    finite = np.flatnonzero(reduce(np.logical_and, np.isfinite(losses.T)))
    if not len(finite):
        return finite
    each = np.ascontiguousarray(losses[finite].T)
    low = each.min(1, keepdims=True)
    scale = np.median(each[:, :: ceil(len(finite) / COMPARED)], axis=1, keepdims=True) - low
    each = (each - low) / np.where(scale > 0, scale, 1.0)
    even = reduce(np.maximum, each).argmin()
    # Most are worse than one trial in every loss.
    left = np.flatnonzero(reduce(np.logical_or, each <= each[:, [even]]))
    finite, each = finite[left], each[:, left]
    drawn = np.random.default_rng(0).dirichlet(np.ones(len(each)), BEST)
    weights = np.maximum(np.vstack([np.eye(len(each)), drawn]), 1e-6)
    found = [reduce(np.maximum, weight[:, None] * each).argmin() for weight in weights]
    return np.asarray(finite[np.unique(found)])


# --- points ---------------------------------------------------------------------------------


class Taken:
    """The points that trials have; those of finished ones are remembered."""

    def __init__(self, cube: Cube) -> None:
        self.cube = cube
        self._weights = np.random.default_rng(0).integers(2**62, size=len(cube.names)) * 2 + 1
        self._finished: set[int] = set()
        self._known: Mask = np.zeros(0, dtype=bool)
        self._others: set[int] = set()

    def note(self, seen: Seen) -> None:
        """From now on these are the trials."""
        ended = ~seen.pending
        fresh, known = ended.copy(), self._known[: len(seen)]
        fresh[: len(known)] &= ~known
        self._finished.update(self._keys(seen.rows[np.flatnonzero(fresh & seen.legal)]))
        self._others = set(self._keys(seen.rows[np.flatnonzero(seen.pending & seen.legal)]))
        self._known = ended

    def new(self, rows: Rows) -> Mask:
        """Which of these points no trial has."""
        taken = [key in self._finished or key in self._others for key in self._keys(rows)]
        return ~np.array(taken, dtype=bool)

    def add(self, row: Rows) -> None:
        """A point that is proposed."""
        self._others.update(self._keys(row[None]))

    def _keys(self, rows: Rows) -> list[int]:
        """A number for each point, the same for equal ones alone as far as anybody will see."""
        positions = self.cube.positions(rows)
        places = np.rint(np.where(np.isnan(positions), -1.0, positions) / GRAIN)
        keys: list[int] = (places.astype(np.int64) @ self._weights).tolist()
        return keys
