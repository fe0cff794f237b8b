"""Is the winner better than the best baseline? Better, not better, or cannot tell.

Better: the paired one-sided 2.5 % test rejects, and the held-out difference, where there is one, is
not negative. Not better: the upper end of the difference's 95 % interval lies below the smallest
difference that is of interest. Otherwise this much data cannot tell; the smallest difference that
it would have shown in four of five cases says how little that means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from hpo_service.protocol import Direction

Answer = Literal["better", "not_better", "cannot_tell"]

ALPHA = 0.025
POWER = 0.8
# A difference of interest: a point of a score that ends at 1, or a share of the baseline's loss.
OF_INTEREST = 0.01
OF_INTEREST_SHARE = 0.02


@dataclass(frozen=True)
class Verdict:
    """`difference`: winner less baseline, positive where the winner is better, with the ends of its
    95 % interval; `p`: one-sided; `detectable`: the smallest difference seen with 80 % power. None
    where it cannot be computed.
    """

    answer: Answer
    difference: float
    low: float | None
    high: float | None
    p: float | None
    test: str
    detectable: float | None
    smallest: float


def smallest_of_interest(direction: Direction, baseline: float) -> float:
    """The difference below which nobody would switch: 0.01 of what is maximised (accuracy, AUC, R2
    and their like end at 1), 2 % of the baseline's score of what is minimised.
    """
    return OF_INTEREST if direction == "maximize" else OF_INTEREST_SHARE * abs(baseline)


def of_rows(
    winner: NDArray[Any],
    baseline: NDArray[Any],
    *,
    held_out: float | None = None,
    smallest: float = OF_INTEREST,
) -> Verdict:
    """Of two accuracies: exact McNemar test (McNemar 1947) on which rows each got right.

    `winner`, `baseline` (rows,) bool, out-of-fold rows of one repeat, independent of each other:
    with groups or in time order use `of_folds`. `held_out`: winner less baseline, positive where
    the winner is better. Interval: Bonett and Price (2012).
    """
    rows = len(winner)
    gained = int((winner & ~baseline).sum())
    lost = int((~winner & baseline).sum())
    p = float(stats.binom.sf(gained - 1, gained + lost, 0.5))
    more, less = (gained + 1) / (rows + 2), (lost + 1) / (rows + 2)
    spread = math.sqrt((more + less - (more - less) ** 2) / (rows + 2))
    reach = float(stats.norm.ppf(1 - ALPHA)) * spread
    low, high = max(more - less - reach, -1.0), min(more - less + reach, 1.0)
    detectable = detectable_rows(rows, (gained + lost + 1) / (rows + 2))
    answer = _answer(p, high, held_out, smallest)
    difference = (gained - lost) / rows
    return Verdict(answer, difference, low, high, p, "exact McNemar", detectable, smallest)


def of_folds(
    winner: NDArray[Any],
    baseline: NDArray[Any],
    direction: Direction,
    *,
    n_train: float,
    n_valid: float,
    held_out: float | None = None,
    smallest: float | None = None,
) -> Verdict:
    """Of any score: corrected resampled t test (Nadeau and Bengio 2003) on folds in common.

    `winner`, `baseline` (folds,) in one order, of all repeats; `n_train`, `n_valid`: mean rows that
    a fold trains on and scores. `held_out`: winner less baseline, positive where the winner is
    better. Folds overlap in what they train on, so their variance is widened by n_valid / n_train.
    """
    sign = 1.0 if direction == "maximize" else -1.0
    differences = sign * (np.asarray(winner, dtype=np.float64) - baseline)
    test, k = "corrected resampled t", len(differences)
    if smallest is None:
        smallest = smallest_of_interest(direction, float(np.mean(baseline)))
    mean = float(differences.mean())
    if k < 2 or not math.isfinite(mean):
        return Verdict("cannot_tell", mean, None, None, None, test, None, smallest)
    error = corrected_error(differences, n_valid / n_train)
    reach = float(stats.t.ppf(1 - ALPHA, k - 1)) * error
    p = float(stats.t.sf(mean / error, k - 1)) if error > 0 else float(mean <= 0)
    answer = _answer(p, mean + reach, held_out, smallest)
    detectable = error * detectable_errors(k - 1)
    return Verdict(answer, mean, mean - reach, mean + reach, p, test, detectable, smallest)


def corrected_error(differences: NDArray[Any], ratio: float) -> float:
    """Of the mean of differences between folds that share training rows (Nadeau and Bengio 2003);
    `ratio`: rows scored by rows trained on. NaN of fewer than two.
    """
    if len(differences) < 2:
        return math.nan
    return float(differences.std(ddof=1)) * math.sqrt(1 / len(differences) + ratio)


def _answer(p: float, high: float, held_out: float | None, smallest: float) -> Answer:
    if p <= ALPHA and (held_out is None or held_out >= 0):
        return "better"
    return "not_better" if high < smallest else "cannot_tell"


def detectable_errors(degrees: int) -> float:
    """The true difference, in standard errors, that a t test finds with 80 % power."""
    critical = stats.t.ppf(1 - ALPHA, degrees)

    def lacking(shift: float) -> float:
        return float(stats.nct.sf(critical, degrees, shift)) - POWER

    return float(optimize.brentq(lacking, 0.0, 4 * critical))


def detectable_rows(rows: int, discordant: float) -> float | None:
    """The true difference that the exact test finds with 80 % power, where a share `discordant` of
    the rows is right in one of the two alone, or as many more as the difference needs.
    """
    counts = np.arange(rows + 1)
    critical = stats.binom.isf(ALPHA, counts, 0.5) + 1

    def lacking(difference: float) -> float:
        apart = max(discordant, difference)
        found = stats.binom.sf(critical - 1, counts, (1 + difference / apart) / 2)
        return float(stats.binom.pmf(counts, rows, apart) @ found) - POWER

    return float(optimize.brentq(lacking, 0.0, 1.0)) if lacking(1.0) > 0 else None
