"""What TPE learns from a study: the best trials, and a bounded number of all others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from hpo_service import dominance
from hpo_service.cube import Rows
from hpo_service.seen import CODES, Mask, Seen

Indices = NDArray[np.intp]

# The best trials, which are kept for ever: this part of all, and no more than so many.
SHARE, BEST = 0.1, 25
# All others: the newest, and some of those before them, evenly spread over the study.
NEWEST, OLDER = 500, 500


@dataclass(frozen=True)
class Data:
    """Rows of the cube: good trials, the best first; all others by number; those that run.

    Of the others, `failed` tells which came to nothing.
    """

    good: Rows
    others: Rows
    failed: Mask
    running: Rows


def read(seen: Seen, n_startup_trials: int) -> Data:
    """The trials that are points of the space.

    Before so many have ended with a loss none counts as good: too little is known to tell.
    """
    complete = (seen.states == CODES["complete"]) & seen.legal & ~np.isnan(seen.losses).any(1)
    pruned = (seen.states == CODES["pruned"]) & seen.legal
    ended = np.flatnonzero(seen.legal & ~seen.pending)
    n_judged = int(np.count_nonzero(complete)) + int(np.count_nonzero(pruned))
    good = np.empty(0, dtype=np.intp)
    if n_judged >= n_startup_trials:
        good = _best(seen, complete, pruned, min(ceil(SHARE * n_judged), BEST))
    others = _spread(ended[~np.isin(ended, good)])
    return Data(
        good=seen.rows[good],
        others=seen.rows[others],
        failed=~(complete | pruned)[others],
        running=seen.rows[np.flatnonzero(seen.legal & seen.pending)[-NEWEST:]],
    )


def _spread(numbers: Indices) -> Indices:
    """The newest, and of those before them each so many-th."""
    if len(numbers) <= NEWEST + OLDER:
        return numbers
    older, newest = numbers[:-NEWEST], numbers[-NEWEST:]
    return np.r_[older[:: ceil(len(older) / OLDER)], newest]


# --- order ----------------------------------------------------------------------------------


def _best(seen: Seen, complete: Mask, pruned: Mask, count: int) -> Indices:
    """The best trials, the best first."""
    found = np.empty(0, dtype=np.intp)
    for group in _groups(seen, complete, pruned):
        if len(found) >= count:
            break
        found = np.r_[found, _first(seen, group, count - len(found))]
    return found


def _groups(seen: Seen, complete: Mask, pruned: Mask) -> Iterator[Indices]:
    """Trials that can be compared, those that got further before others."""
    yield np.flatnonzero(complete)
    numbers = np.flatnonzero(pruned)
    steps = seen.steps[numbers]
    for step in np.unique(steps)[::-1]:
        yield numbers[steps == step]


def _first(seen: Seen, numbers: Indices, count: int) -> Indices:
    """So many of the best of these, the best first."""
    losses = seen.losses[numbers]
    if seen.metrics == 1 and len(numbers) > count:
        kept = np.sort(np.argpartition(losses[:, 0], count - 1)[:count])
        numbers, losses = numbers[kept], losses[kept]
    return numbers[dominance.order(losses)[:count]]
