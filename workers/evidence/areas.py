"""The area under the ROC curve of two classes, with its interval."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from workers.evidence.units import Floats, Units, standard_error


def area(score: Floats, positive: NDArray[Any], unit: Units, level: float) -> tuple[float, ...]:
    """The area and both ends of its interval; NaN where one class is missing.

    DeLong's variance (DeLong et al. 1988) by midranks (Sun and Xu 2014), between units where rows
    hang together (Obuchowski 1997), on the logit scale, where an area near 1 keeps its coverage.
    An area of 0 or 1 has no variance to be seen: the score interval of Newcombe (2006, method 5).

    `score` (rows,): higher for `positive` (rows,) bool.
    """
    few = min(int(positive.sum()), int((~positive).sum()))
    if few == 0:
        return math.nan, math.nan, math.nan
    value, influence = placements(score, positive)
    error, degrees = standard_error(influence, unit)
    if degrees and 0 < value < 1 and error > 0:
        step = stats.t.ppf((1 + level) / 2, degrees) * error / (value * (1 - value))
        low, high = (1 / (1 + math.exp(-_logit(value) - way * step)) for way in (-1, 1))
        return value, low, high
    m, n = (len(np.unique(unit[side])) for side in (positive, ~positive))
    return value, *_newcombe(value, m, n, float(stats.norm.ppf((1 + level) / 2)))


def placements(score: Floats, positive: NDArray[Any]) -> tuple[float, Floats]:
    """The area, and by how much each row moves it, (rows,)."""
    m, n = int(positive.sum()), int((~positive).sum())
    ranks = stats.rankdata(score)
    above, below = np.empty(m), np.empty(n)
    above[:] = (ranks[positive] - stats.rankdata(score[positive])) / n
    below[:] = 1 - (ranks[~positive] - stats.rankdata(score[~positive])) / m
    value = float(above.mean())
    influence = np.empty(len(score))
    # Of m rows with their own mean taken away, the sum of squares is m - 1 times their variance.
    influence[positive] = (above - value) / m * math.sqrt(m / max(m - 1, 1))
    influence[~positive] = (below - value) / n * math.sqrt(n / max(n - 1, 1))
    return value, influence


def _newcombe(value: float, m: int, n: int, z: float) -> tuple[float, float]:
    """Where the distance to `value` is `z` standard errors of Hanley and McNeil (1982)."""

    def far(area: float) -> float:
        half = (m + n) / 2 - 1
        shape = 1 + half * ((1 - area) / (2 - area) + area / (1 + area))
        return (value - area) ** 2 - z**2 * area * (1 - area) * shape / (m * n)

    inside = 1e-12
    if value < 1:
        return 0.0, float(optimize.brentq(far, inside, 1 - inside)) if value == 0 else 1.0
    return float(optimize.brentq(far, inside, 1 - inside)), 1.0


def _logit(value: float) -> float:
    return math.log(value / (1 - value))
