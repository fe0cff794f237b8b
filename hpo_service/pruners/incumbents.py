"""The trials that are the best so far: those that a trial is compared with fold by fold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hpo_service import dominance
from hpo_service.pruners.base import Case, Numbers
from hpo_service.seen import Mask

# Of a larger front those count that are far from each other.
MOST = 50

# Whether the folds of one trial (folds,) are worse than those of another.
Worse = Callable[[NDArray[np.float64], NDArray[np.float64]], bool]


def finished(case: Case, step: int) -> Numbers:
    """The best complete trials that are like this one and reported this step: one, or a front."""
    return _best(case.standings.losses, _others(case, step) & case.standings.complete)


def best(case: Case) -> Numbers:
    """The same of its own step; where none is complete, the best there of those that run or were
    ended.
    """
    found = finished(case, case.step)
    if len(found):
        return found
    return _best(case.standings.at(case.step), _others(case, case.step))


def is_worse(case: Case, numbers: Numbers, step: int, worse: Worse) -> bool:
    """Whether in every metric it is worse than one of these trials was at a step."""
    if not len(numbers) or not case.folds.size:
        return False
    theirs = case.standings.folds_at(step, numbers.tolist())
    return any(
        all(worse(own, other) for own, other in zip(case.folds, folds, strict=True))
        for folds in theirs
    )


def _others(case: Case, step: int) -> Mask:
    found = case.standings.alike(case.number) & case.standings.reported(step)
    found[case.number] = False
    return found


def _best(losses: NDArray[np.float64], among: Mask) -> Numbers:
    numbers = np.flatnonzero(among & ~np.isnan(losses).any(1))
    if losses.shape[1] == 1:
        return numbers[np.argsort(losses[numbers, 0], kind="stable")[:1]]
    front = numbers[dominance.front(losses[numbers])]
    return front[dominance.order(losses[front])[:MOST]]
