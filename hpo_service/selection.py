"""Choosing a simpler setting that is as good as the best, as far as the folds can tell."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from hpo_service import protocol

# The metric that says how many numbers a network trains.
SIZE = "parameters"


@dataclass(frozen=True)
class Candidate:
    """A completed trial: its value, its scores on the folds, which are the same for all, and how
    many numbers it trains.
    """

    number: int
    value: float
    folds: Sequence[float]
    parameters: int


def one_standard_error(
    candidates: Sequence[Candidate],
    direction: protocol.Direction,
    *,
    n_train: float,
    n_valid: float,
) -> Candidate:
    """The one with the fewest trained parameters among those within one standard error of the best
    (Breiman et al. 1984); of equals the better value, then the lower number.

    Within: the mean paired difference of its folds to the best one's is at most one corrected
    standard error of such differences (Nadeau and Bengio 2003). `n_train`, `n_valid`: mean rows
    that a fold trains on and scores. ValueError where there is no candidate.
    """
    sign = 1.0 if direction == "maximize" else -1.0
    best = max(candidates, key=lambda each: (sign * each.value, -each.number))
    within = [
        each for each in candidates if each is best or _within(best, each, sign, n_valid / n_train)
    ]
    return min(within, key=lambda each: (each.parameters, -sign * each.value, each.number))


def corrected_error(differences: Sequence[float], ratio: float) -> float:
    """Of the mean of differences between folds that share training rows; `ratio`: rows scored by
    rows trained on. NaN of fewer than two.
    """
    if len(differences) < 2:
        return math.nan
    return statistics.stdev(differences) * math.sqrt(1 / len(differences) + ratio)


def _within(best: Candidate, other: Candidate, sign: float, ratio: float) -> bool:
    pairs = zip(best.folds, other.folds, strict=True)
    differences = [sign * (first - second) for first, second in pairs]
    error = corrected_error(differences, ratio)
    return not math.isnan(error) and statistics.fmean(differences) <= error
