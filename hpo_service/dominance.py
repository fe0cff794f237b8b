"""Which of many trials are better, where each has several losses: fronts, and places inside them.

Losses (trials, metrics): lower is better; a trial with a NaN among them is behind all others.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

Losses = NDArray[np.float64]
Indices = NDArray[np.intp]


def order(losses: Losses) -> Indices:
    """The trials from best to worst: by front, those far from their neighbours first in each.

    Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II" (2002). Equals stay
    in the order given. With one metric that is the order of the losses.
    """
    if losses.shape[1] == 1:
        return np.argsort(losses[:, 0], kind="stable")
    front = fronts(losses)
    crowding = np.zeros(len(losses))
    for number in range(int(front.max(initial=-1)) + 1):
        members = np.flatnonzero(front == number)
        crowding[members] = _crowding(losses[members])
    return np.lexsort((np.arange(len(losses)), -crowding, front))


def front(losses: Losses) -> Indices:
    """Those that no other dominates, without a NaN: the first front alone, which takes less."""
    left = np.flatnonzero(~np.isnan(losses).any(1))
    left = left[np.lexsort(losses[left].T[::-1])]  # whatever dominates a trial comes before it
    found = []
    while len(left):
        found.append(left[0])
        first = losses[left[0]]
        left = left[1:]
        left = left[((losses[left] < first).any(1)) | (losses[left] == first).all(1)]
    return np.sort(np.array(found, dtype=np.intp))


def fronts(losses: Losses) -> Indices:
    """The front (trials,) of each: 0 for those that no other dominates, 1 for those that only
    these dominate, and so on; the last front is of trials with a NaN.
    """
    found = np.zeros(len(losses), dtype=np.intp)
    known = np.flatnonzero(~np.isnan(losses).any(1))
    if len(known):
        sort = _sorted_in_two if losses.shape[1] == 2 else _sorted
        distinct, place = np.unique(losses[known], axis=0, return_inverse=True)
        found[known] = sort(distinct)[place.reshape(-1)]
    unknown = np.isnan(losses).any(1)
    found[unknown] = found.max(initial=-1) + 1 if len(known) else 0
    return found


def _sorted_in_two(distinct: Losses) -> Indices:
    """Fronts of distinct losses in lexical order: only the second can still be better."""
    lowest: list[float] = []  # second loss of each front so far, which rises from front to front
    found = np.empty(len(distinct), dtype=np.intp)
    for at, second in enumerate(distinct[:, 1].tolist()):
        number = bisect_right(lowest, second)
        lowest[number : number + 1] = [second]
        found[at] = number
    return found


def _sorted(distinct: Losses) -> Indices:
    """Fronts of distinct losses: those that nobody left dominates, time and again."""
    at_most = np.ones((len(distinct), len(distinct)), dtype=bool)
    for metric in distinct.T:
        at_most &= metric[:, None] <= metric
    np.fill_diagonal(at_most, False)
    above, found, number = at_most.sum(0), np.full(len(distinct), -1, dtype=np.intp), 0
    while (found < 0).any():
        members = np.flatnonzero((found < 0) & (above == 0))
        found[members] = number
        above -= at_most[members].sum(0)
        number += 1
    return found


def _crowding(losses: Losses) -> NDArray[np.float64]:
    """The size of the gap around each member of a front, infinite at its ends."""
    total = np.zeros(len(losses))
    for metric in losses.T:
        by = np.argsort(metric, kind="stable")
        with np.errstate(invalid="ignore"):  # infinite losses have no distance
            width = metric[by[-1]] - metric[by[0]]
            gaps = np.full(len(by), np.inf)
            gaps[1:-1] = (metric[by[2:]] - metric[by[:-2]]) / (width if width > 0 else 1.0)
        total[by] += np.nan_to_num(gaps, nan=0.0, posinf=np.inf)
    return total
