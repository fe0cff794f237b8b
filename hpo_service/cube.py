"""A search space as the unit cube: what models see of a trial, and trials of what models choose.

A choice is the number of its place in the list; unless the list is ordered, its position tells it
apart and means no more.
What is not active is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hpo_service import space
from hpo_service.protocol import Choice, Distribution, FloatRange, IntRange, ParamValue
from hpo_service.space import Space

Rows = NDArray[np.float64]
NUMBERS = frozenset((bool, int, float))


class Constraint(Protocol):
    """A rule that points of a space have to meet."""

    def met(self, cube: Cube, rows: Rows) -> NDArray[np.bool_]:
        """Which of the rows (points, parameters) meet it; what is not active is NaN there."""


class Cube:
    """Maps params to rows (n, parameters) of values, these to positions from 0 to 1, and back.

    Each value of a stepped range, of whole numbers and of a list owns an equal part of its side
    (in logarithms for log) and sits in the middle of it.
    """

    def __init__(self, searched: Space, constraints: Sequence[Constraint] = ()) -> None:
        self.space, self.constraints = searched, tuple(constraints)
        self.names = space.order(searched)
        self._column = {name: i for i, name in enumerate(self.names)}
        ends = np.array([_ends(searched[name]) for name in self.names])
        self._low, self._high, self._step = ends.T
        self._log = np.flatnonzero([getattr(searched[n], "log", False) for n in self.names])
        self.unordered = np.array([_unordered(searched[n]) for n in self.names])
        sides = self._scaled(np.stack([self._low - self._step / 2, self._high + self._step / 2]))
        self._from, self._width = sides[0], sides[1] - sides[0]
        self._stepped = self._step > 0
        # What to divide by, where there may be nothing to divide.
        self._steps = np.where(self._stepped, self._step, 1.0)
        self._widths = np.where(self._width > 0, self._width, 1.0)
        self.distributions = space.distributions(searched)
        self._places = {
            name: {choice: place for place, choice in enumerate(given.choices)}
            for name, given in searched.items()
            if isinstance(given, Choice)
        }
        self._conditions = [
            (column, self._column[parent], np.array(self._numbers(parent, values), dtype=float))
            for column, name in enumerate(self.names)
            for parent, values in (searched[name].when or {}).items()
        ]

    def rows(self, params: Sequence[Mapping[str, ParamValue]]) -> Rows:
        """The values of trials, a row each; `legal` tells which of them are points of the space."""
        if not any(params):
            return np.full((len(params), len(self.names)), np.nan)
        columns = [
            self._numbers(name, [given.get(name, math.nan) for given in params])
            for name in self.names
        ]
        return np.array(columns, dtype=np.float64).T.copy()

    def legal(self, rows: Rows) -> NDArray[np.bool_]:
        """Whether each row has all active parameters, inside their ranges, and no others."""
        within = (rows >= self._low) & (rows <= self._high)
        if self._conditions:
            within = np.where(self._active(rows), within, np.isnan(rows))
        return np.asarray(within.all(1))

    def inside(self, rows: Rows) -> NDArray[np.bool_]:
        """Whether what each row has of values is inside the ranges."""
        within = (rows >= self._low) & (rows <= self._high)
        return np.asarray((within | np.isnan(rows)).all(1))

    def feasible(self, rows: Rows) -> NDArray[np.bool_]:
        """Which of the rows meet all constraints."""
        met = np.ones(len(rows), dtype=bool)
        for constraint in self.constraints:
            met &= constraint.met(self, rows)
        return met

    def positions(self, rows: Rows) -> Rows:
        """Where the values are on the sides of the cube; NaN stays."""
        return np.asarray((self._scaled(rows) - self._from) / self._widths)

    def values(self, positions: Rows, fixed: Rows) -> Rows:
        """The rows at these positions: on their steps, inactive ones NaN.

        What is not NaN in `fixed` (parameters,) is taken instead.
        """
        found = self._from + positions * self._width
        found[:, self._log] = np.exp(found[:, self._log])
        stepped = self._low + self._steps * np.floor((found - self._low) / self._steps + 0.5)
        found = np.where(self._stepped, stepped, found).clip(self._low, self._high)
        found = np.where(np.isnan(fixed), found, fixed)
        if self._conditions:
            found[~self._active(found)] = np.nan
        return found

    def edges(self, column: int, at_most: int) -> Rows | None:
        """Where on this side the parts begin that values own, and the end of the last.

        None where there are more values than that.
        """
        low, high, step = self._low[column], self._high[column], self._step[column]
        if high == low:
            return np.array([0.0, 1.0])
        if step == 0 or (count := round((high - low) / step) + 1) > at_most:
            return None
        ends = low + step * (np.arange(count + 1) - 0.5)
        scaled = np.log(ends) if column in self._log else ends
        return np.asarray((scaled - self._from[column]) / self._width[column])

    def params(self, row: Rows) -> dict[str, ParamValue]:
        """The active parameters of a row (parameters,), as a trial has them."""
        return {
            name: self._param(name, float(number))
            for name, number in zip(self.names, row, strict=True)
            if not math.isnan(number)
        }

    def _numbers(self, name: str, values: Sequence[Any]) -> Sequence[float]:
        """Values of one parameter as rows have them; NaN stays, what is illegal stays so."""
        if name in self._places:
            places = self._places[name]
            return [value if value != value else places.get(value, -1) for value in values]
        if NUMBERS.issuperset(map(type, values)):
            return values
        return [value if isinstance(value, int | float) else math.inf for value in values]

    def _param(self, name: str, number: float) -> ParamValue:
        given = self.space[name]
        if isinstance(given, Choice):
            return given.choices[int(number)]
        if isinstance(given, IntRange):
            return int(number)
        if given.step is None:
            return number
        return space.at_step(given, round((number - given.low) / given.step))

    def _scaled(self, rows: Rows) -> Rows:
        scaled = rows.copy()
        scaled[:, self._log] = np.log(rows[:, self._log])
        return scaled

    def _active(self, rows: Rows) -> NDArray[np.bool_]:
        """Which parameters exist beside the others of their row: parents come first."""
        active = np.ones(rows.shape, dtype=bool)
        for column, parent, wanted in self._conditions:
            met = np.isclose(rows[:, parent, None], wanted, rtol=1e-9, atol=1e-12).any(1)
            active[:, column] &= met & active[:, parent]
        return active


def _unordered(given: Distribution) -> bool:
    return isinstance(given, Choice) and not given.ordered


def _ends(given: Choice | IntRange | FloatRange) -> tuple[float, float, float]:
    """The lowest and the highest value, and the step between values: 0 for none."""
    if isinstance(given, Choice):
        return 0, len(given.choices) - 1, 1
    if given.step is None:
        return given.low, given.high, 0
    if isinstance(given, IntRange):
        return given.low, given.low + space.last_step(given) * given.step, given.step
    return given.low, space.at_step(given, space.last_step(given)), given.step
