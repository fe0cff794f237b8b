"""Ends trials whose folds are worse than the same folds of the best trial."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import special, stats

from hpo_service import errors
from hpo_service.plugins import Options
from hpo_service.pruners import incumbents
from hpo_service.pruners.base import Case, Facts, PrunerEntry, need_folds
from hpo_service.pruners.places import place

Folds = NDArray[np.float64]

# A race is held at epochs 3, 9, 27 and so on, but not in the first tenth of the training.
RUNG, FIRST_SHARE = 3, 0.1
# Nobody among the best of so many is ended.
BEST_OF = 3


class WilcoxonOptions(Options):
    """Ends a trial whose folds rank below the best trial's at the same step (Wilcoxon 1945)."""

    p_threshold: Annotated[
        float, Field(gt=0, lt=0.5, description="One-sided p at which a trial ends.")
    ] = 0.05
    n_warmup_steps: Annotated[
        int, Field(ge=0, le=10**6, description="Steps of each trial before it is judged.")
    ] = 5


class RacingOptions(Options):
    """Ends a trial that is surely worse than the best at epoch 3, 9, 27 ..., fold by fold, and not
    in the best third there. Where folds run one after another, a step each: one whose mean is worse
    than the worst fold of the best.
    """

    alpha: Annotated[
        float, Field(gt=0, lt=0.5, description="How often a good trial may end, all rungs together")
    ] = 0.025
    epochs: Annotated[
        int | None,
        Field(ge=1, le=10**6, description="Of each trial, where no parameter of this name tells."),
    ] = None


@dataclass(frozen=True)
class Wilcoxon:
    """Judges at every step after the first ones."""

    p_threshold: float
    n_warmup_steps: int

    def prunes(self, case: Case) -> bool:
        """A trial that is not finite is worse than any other."""
        if case.step < self.n_warmup_steps:
            return False
        if np.isnan(case.losses).any():
            return True
        return incumbents.is_worse(case, incumbents.best(case), case.step, self._ranks_below)

    def _ranks_below(self, own: Folds, other: Folds) -> bool:
        differences = _differences(own, other)
        differences = differences[differences != 0]
        # So few cannot go lower.
        if not len(differences) or 0.5 ** len(differences) > self.p_threshold:
            return False
        return bool(stats.wilcoxon(differences, alternative="greater").pvalue <= self.p_threshold)


@dataclass(frozen=True)
class Racing:
    """Folds overlap in what they train on, so the variance of their differences is widened by
    `ratio`, rows scored by rows trained on (Nadeau and Bengio 2003).

    `folds`: of a whole trial; `epochs`: of each trial where `Standings` do not tell.
    """

    alpha: float
    folds: int
    ratio: float
    epochs: int | None

    def prunes(self, case: Case) -> bool:
        """At a rung by the corrected t against the incumbent; or after a fold by its worst one."""
        if case.folds.shape[1] == case.step < self.folds:
            return self._hopeless(case)
        rungs = self._rungs(case)
        if not case.reaches(rungs) or self._among_the_best(case):
            return False
        if np.isnan(case.losses).any():
            return True
        level = self.alpha / len(rungs)
        return incumbents.is_worse(
            case, incumbents.best(case), case.step,
            lambda own, other: self._surely_worse(own, other, level),
        )  # fmt: skip

    def _rungs(self, case: Case) -> list[int]:
        epochs = case.standings.epochs[case.number]
        if math.isnan(epochs):
            epochs = self.epochs or 0
        found = [RUNG**power for power in range(1, 20) if RUNG**power < epochs]
        return [rung for rung in found if rung >= FIRST_SHARE * epochs]

    def _among_the_best(self, case: Case) -> bool:
        rivals = case.standings.reported(case.step) & case.standings.alike(case.number)
        rivals[case.number] = False
        if np.isnan(case.losses).any():
            return False
        better = place(case.losses, case.standings.at(case.step)[rivals])
        return better * BEST_OF < int(np.count_nonzero(rivals)) + 1

    def _surely_worse(self, own: Folds, other: Folds, level: float) -> bool:
        differences = _differences(own, other)
        k = len(differences)
        if k < 2 or differences.mean() <= 0:
            return False
        error = differences.std(ddof=1) * math.sqrt(1 / k + self.ratio)
        t = differences.mean() / error if error > 0 else math.inf
        return bool(special.stdtr(k - 1, -t) <= level)

    def _hopeless(self, case: Case) -> bool:
        """Whether the mean of the folds done is worse than the worst fold of the incumbent."""
        best = incumbents.finished(case, self.folds)
        return incumbents.is_worse(case, best, self.folds, _behind_the_worst)


def _behind_the_worst(own: Folds, other: Folds) -> bool:
    known = other[~np.isnan(other)]
    return len(known) > 0 and not bool(own.mean() <= known.max())


def _differences(own: Folds, other: Folds) -> Folds:
    """By how much each fold is worse, where both are known."""
    n = min(len(own), len(other))
    found = own[:n] - other[:n]
    return found[~np.isnan(found)]


def _wilcoxon(options: WilcoxonOptions, _facts: Facts) -> Wilcoxon:
    return Wilcoxon(options.p_threshold, options.n_warmup_steps)


def _racing(options: RacingOptions, facts: Facts) -> Racing:
    return Racing(options.alpha, facts.folds, facts.ratio, options.epochs)


def _check_wilcoxon(options: WilcoxonOptions, facts: Facts) -> None:
    need_folds("wilcoxon", facts)
    if 0.5**facts.folds > options.p_threshold:
        enough = math.ceil(-math.log2(options.p_threshold))
        raise errors.invalid(
            "pruner.p_threshold",
            f"{facts.folds} folds cannot go below 1/{2**facts.folds}: make that {enough} folds, "
            "raise it, or take racing",
        )


def _check_racing(options: RacingOptions, facts: Facts) -> None:
    need_folds("racing", facts)
    if facts.iterated and options.epochs is None:
        raise errors.invalid(
            "pruner.epochs",
            "trials end after so many iterations: say how many epochs these are, or fix epochs",
        )


WILCOXON = PrunerEntry(options=WilcoxonOptions, build=_wilcoxon, check_facts=_check_wilcoxon)
RACING = PrunerEntry(
    options=RacingOptions, build=_racing, check_facts=_check_racing, any_length=True
)
