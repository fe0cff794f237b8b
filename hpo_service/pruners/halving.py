"""Successive halving: at each rung only the best of those that reached it go on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpo_service import errors
from hpo_service.plugins import Options
from hpo_service.pruners.base import Case, Facts, PrunerEntry
from hpo_service.pruners.places import place
from hpo_service.seen import Mask

# No trial has a rung beyond.
LONGEST = 10**9
# Its multiples, whole parts taken off, are spread evenly from 0 to 1 however many there are.
GOLDEN = (math.sqrt(5) - 1) / 2


class AshaOptions(Options):
    """Asynchronous successive halving (Li et al. 2020): few survive each rung, and run longer."""

    min_resource: Annotated[int, Field(ge=1, le=10**6, description="Steps to the first rung.")] = 2
    reduction_factor: Annotated[
        int, Field(ge=2, le=100, description="One of so many trials goes on to the next rung.")
    ] = 3


class HyperbandOptions(AshaOptions):
    """Hyperband (Li et al. 2018): asha with later and later first rungs, drawn for each trial."""

    max_resource: Annotated[
        int | None,
        Field(ge=1, le=10**6, description="Steps of the longest trial. Unset: the study's epochs."),
    ] = None


@dataclass(frozen=True)
class Asha:
    """A trial goes on past a rung while it is among the best 1 / `eta` that have reached it."""

    rungs: tuple[int, ...]
    eta: int

    def prunes(self, case: Case) -> bool:
        """Only at a rung, or the first step beyond: what others had at that step decides."""
        return case.reaches(self.rungs) and self.falls(case, case.standings.reported(case.step))

    def falls(self, case: Case, rivals: Mask) -> bool:
        """Whether it is not among those of the `rivals` (trials,), itself one, that go on."""
        if np.isnan(case.losses).any():
            return True
        others = rivals.copy()
        others[case.number] = False
        better = place(case.losses, case.standings.at(case.step)[others])
        return better >= max(1, int(np.count_nonzero(rivals)) // self.eta)


@dataclass(frozen=True)
class Hyperband:
    """Each trial belongs to a bracket by its number, and competes with the trials of that alone.

    `shares` (brackets,): of all trials, those that belong to it.
    """

    brackets: tuple[Asha, ...]
    shares: tuple[float, ...]

    def prunes(self, case: Case) -> bool:
        """As its bracket says."""
        members = self.members(len(case.standings.states))
        own = self.brackets[int(members[case.number])]
        if not case.reaches(own.rungs):
            return False
        rivals = case.standings.reported(case.step) & (members == members[case.number])
        return own.falls(case, rivals)

    def members(self, n: int) -> NDArray[np.intp]:
        """The bracket of each of the first n trials: shares that hold for any run of numbers."""
        places = np.arange(n) * GOLDEN % 1.0
        found = np.searchsorted(np.cumsum(self.shares), places, side="right")
        return np.asarray(np.minimum(found, len(self.shares) - 1))


def _rungs(first: int, eta: int) -> tuple[int, ...]:
    found = [first]
    while found[-1] < LONGEST:
        found.append(found[-1] * eta)
    return tuple(found)


def _asha(options: AshaOptions, _facts: Facts) -> Asha:
    return Asha(_rungs(options.min_resource, options.reduction_factor), options.reduction_factor)


def _hyperband(options: HyperbandOptions, facts: Facts) -> Hyperband:
    eta, first = options.reduction_factor, options.min_resource
    longest = options.max_resource or facts.epochs or first
    brackets = [Asha(_rungs(first, eta), eta)]
    while brackets[-1].rungs[1] <= longest:
        brackets.append(Asha(brackets[-1].rungs[1:], eta))
    last = len(brackets) - 1
    # So that each bracket takes about as many steps as any other.
    sizes = [math.ceil((last + 1) * eta**s / (s + 1)) for s in range(last, -1, -1)]
    return Hyperband(tuple(brackets), tuple(size / sum(sizes) for size in sizes))


def _check_hyperband(options: HyperbandOptions, facts: Facts) -> None:
    longest = options.max_resource or facts.epochs
    if longest is None:
        raise errors.invalid(
            "pruner.max_resource", "nothing says how many steps a trial has: give it"
        )
    if longest < options.min_resource:
        raise errors.invalid(
            "pruner.max_resource", f"is {longest}, less than min_resource, {options.min_resource}"
        )


ASHA = PrunerEntry(options=AshaOptions, build=_asha)
HYPERBAND = PrunerEntry(options=HyperbandOptions, build=_hyperband, check_facts=_check_hyperband)
