"""Every combination once: the next point is the first not in the study.

Points are numbered, and made from their numbers when their turn comes. What is not active is no
part of a point, so points that would differ only there are one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Annotated, Any

from pydantic import Field

from hpo_service import errors, space
from hpo_service.cube import Cube, Rows
from hpo_service.plugins import Options
from hpo_service.protocol import (
    MAX_GRID_POINTS,
    Choice,
    Distribution,
    FloatRange,
    IntRange,
    ParamValue,
)
from hpo_service.samplers.base import Ask, SamplerEntry, Suggestion
from hpo_service.seen import CODES, Seen
from hpo_service.space import Space

Point = dict[str, ParamValue]

# Values closer than this part of their range are one: much less than two points can be apart.
RESOLUTION = 10**9
# Of one parameter.
MAX_POINTS = 10_000
# Rounds of the permutation that shuffles.
ROUNDS = 4


class GridOptions(Options):
    """Every combination once, in a fixed order; a float range needs a step or `points`."""

    points: dict[str, Annotated[int, Field(ge=2, le=MAX_POINTS)]] = Field(
        default_factory=dict,
        description="How many values of a range: evenly spaced, both ends, in log for log.",
    )
    shuffle: Annotated[
        bool, Field(description="In an order drawn from the study's seed, so that any part of the "
        "grid is spread over all of it.")
    ] = False  # fmt: skip


class GridSampler:
    """Proposes the first points of the grid that no trial of the study has, in whatever state."""

    def __init__(self, cube: Cube, options: GridOptions) -> None:
        self.cube, self.options = cube, options
        self._grid = Grid(cube.space, options, {})
        self._taken: set[int] = set()
        self._known = 0
        self._ahead: list[int] = []
        self._rest: Iterator[int] | None = None

    def propose(self, seen: Seen, ask: Ask) -> list[Suggestion]:
        """The next points that agree with the fixed parameters, if there are any."""
        if ask.fixed:
            return self._agreeing(seen, ask)
        waiting = self._note(seen)
        if self._rest is None:
            self._rest = self._order(self._grid, ask.seed)
        self._ahead = [number for number in self._ahead if number not in self._taken]
        # What was proposed may not have been stored: points leave the list when they are.
        found = [number for number in self._ahead if number not in waiting][: ask.count]
        while len(found) < ask.count and (number := next(self._rest, None)) is not None:
            if number not in self._taken and self._allowed(self._grid, number):
                self._ahead.append(number)
                found += [] if number in waiting else [number]
        return [Suggestion(self._grid.point(number)) for number in found]

    def _agreeing(self, seen: Seen, ask: Ask) -> list[Suggestion]:
        """From a grid of its own: fixed values need not be on the other one."""
        grid = Grid(self.cube.space, self.options, ask.fixed)
        stored = _numbers(grid, seen.rows)
        allowed = [n for n in self._order(grid, ask.seed) if self._allowed(grid, n)]
        fresh = [number for number in allowed if number not in stored]
        # A manual trial is evaluated in any case.
        found = fresh[: ask.count] or allowed[:1]
        return [Suggestion(grid.point(number)) for number in found]

    def _order(self, grid: Grid, seed: int) -> Iterator[int]:
        """The numbers of the points as they are tried."""
        if not self.options.shuffle:
            return iter(range(len(grid)))
        return (_shuffled(number, len(grid), seed) for number in range(len(grid)))

    def _allowed(self, grid: Grid, number: int) -> bool:
        if not self.cube.constraints:
            return True
        return bool(self.cube.feasible(self.cube.rows([grid.point(number)])).all())

    def _note(self, seen: Seen) -> set[int]:
        """Remember the points of trials; of those that wait, and may get more parameters, apart."""
        rows = seen.rows[self._known :]
        waits = seen.states[self._known :] == CODES["waiting"]
        self._taken |= _numbers(self._grid, rows[~waits])
        waiting = _numbers(self._grid, rows[waits])
        # From the first that waits on they are read again.
        self._known += int(waits.argmax()) if waits.any() else len(rows)
        return waiting


def _numbers(grid: Grid, rows: Rows) -> set[int]:
    """Which points of the grid are among the rows."""
    numbers = map(grid.number, rows.tolist())
    return {number for number in numbers if number is not None}


def check(cube: Cube, options: GridOptions) -> None:
    """Raise `InvalidRequest` unless each range has values to count, and points are not too many."""
    searched = cube.space
    for name in options.points:
        if name not in searched:
            raise errors.invalid(f"sampler.points.{name}", "names no parameter of the search space")
        if isinstance(searched[name], Choice):
            raise errors.invalid(f"sampler.points.{name}", "all choices are taken: leave it out")
    for name, given in searched.items():
        if size(given, options.points.get(name)) is None:
            raise errors.invalid(
                f"search_space.{name}",
                f'a grid needs a `step` here, or `"points": {{"{name}": 10}}` in the sampler',
            )
    if count(searched, options) > MAX_GRID_POINTS:
        raise errors.invalid(
            "sampler", f"the grid has more than {MAX_GRID_POINTS} points: take fewer, or `random`"
        )


# --- points ---------------------------------------------------------------------------------


def count(searched: Space, options: GridOptions) -> int:
    """The number of points, or one beyond `MAX_GRID_POINTS` where it is easily seen to be more."""
    sizes = {name: size(d, options.points.get(name)) or 0 for name, d in searched.items()}
    always = math.prod(sizes[name] for name, d in searched.items() if not d.when)
    if max(always, *sizes.values()) > MAX_GRID_POINTS:
        return max(always, *sizes.values())
    return len(Grid(searched, options, {}))


class Grid:
    """The points by number, from 0; the last parameter changes fastest.

    How many points follow a choice depends only on the parameters that decide whether others
    exist; so all others are counted by multiplying, and a point is found by dividing its number.
    """

    def __init__(self, searched: Space, options: GridOptions, fixed: space.Params) -> None:
        self.space = searched
        self.names = space.order(searched)
        self._axes = {
            name: [fixed[name]] if name in fixed else axis(given, options.points.get(name))
            for name, given in searched.items()
        }
        # Of each name, those before it that decide about it or about one that follows.
        parents = [set(searched[name].when or {}) for name in self.names]
        self._deciding = [
            [n for n in self.names[:at] if any(n in each for each in parents[at:])]
            for at in range(len(self.names) + 1)
        ]
        self._sizes: dict[tuple[Any, ...], int] = {}

    def __len__(self) -> int:
        return self._size(0, {})

    def point(self, number: int) -> Point:
        """The point of this number, at least 0 and less than there are."""
        chosen: Point = {}
        for at, name in enumerate(self.names):
            if not self._active(name, chosen):
                continue
            if name not in self._deciding[at + 1]:
                each = self._size(at + 1, chosen)
                place, number = divmod(number, each)
                chosen[name] = self._axes[name][place]
                continue
            for value in self._axes[name]:
                below = self._size(at + 1, chosen | {name: value})
                if number < below:
                    break
                number -= below
            chosen[name] = value
        return chosen

    def number(self, row: Sequence[float]) -> int | None:
        """The number of the point with these values, as a `Cube` has them; None for any other."""
        chosen: Point = {}
        number = 0
        for at, (name, value) in enumerate(zip(self.names, row, strict=True)):
            active = self._active(name, chosen)
            if active == math.isnan(value):
                return None
            if not active:
                continue
            place = self._places[name].get(_key(self.space[name], value))
            if place is None:
                return None
            number += self._before(at, chosen, place)
            chosen[name] = self._axes[name][place]
        return number

    def _before(self, at: int, chosen: Point, place: int) -> int:
        """How many points that begin as `chosen` come before those with this place of the next."""
        name = self.names[at]
        if name not in self._deciding[at + 1]:
            return place * self._size(at + 1, chosen) if place else 0
        return sum(self._size(at + 1, chosen | {name: v}) for v in self._axes[name][:place])

    @cached_property
    def _places(self) -> dict[str, dict[int | None, int]]:
        """Of each parameter the places of its values on the axis."""
        return {name: _places(self.space[name], values) for name, values in self._axes.items()}

    def _active(self, name: str, chosen: Point) -> bool:
        return not self.space[name].when or space.active(self.space, name, chosen)

    def _size(self, at: int, chosen: Point) -> int:
        """How many points begin with these values of the first `at` names."""
        if at == len(self.names):
            return 1
        key = (at, *(chosen.get(name) for name in self._deciding[at]))
        if key not in self._sizes:
            self._sizes[key] = self._counted(at, chosen)
        return self._sizes[key]

    def _counted(self, at: int, chosen: Point) -> int:
        name = self.names[at]
        if not self._active(name, chosen):
            return self._size(at + 1, chosen)
        if name not in self._deciding[at + 1]:
            return len(self._axes[name]) * self._size(at + 1, chosen)
        return sum(self._size(at + 1, chosen | {name: value}) for value in self._axes[name])


def _shuffled(number: int, n: int, seed: int) -> int:
    """Where a permutation of 0 to n - 1 takes a number.

    A Feistel network over the next power of four, walked until it is below n (Black and Rogaway,
    2002).
    """
    half = max(1, (max(n - 1, 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = number >> half, number & mask
        for turn in range(ROUNDS):
            digest = hashlib.blake2b(f"{seed} {turn} {right}".encode(), digest_size=8).digest()
            left, right = right, left ^ (int.from_bytes(digest, "big") & mask)
        number = left << half | right
        if number < n:
            return number


# --- values ---------------------------------------------------------------------------------


def size(given: Distribution, n_points: int | None) -> int | None:
    """How many values the parameter has on the grid; None: without end."""
    if isinstance(given, Choice):
        return len(given.choices)
    if given.low == given.high:
        return 1
    if given.step is None:
        return n_points
    values = space.last_step(given) + 1
    if n_points is None:
        return values
    return len(_spread(given, n_points)) if given.log else min(values, n_points)


def axis(given: Distribution, n_points: int | None) -> Sequence[ParamValue]:
    """The values of the parameter on the grid, in ascending order or as listed."""
    if isinstance(given, Choice):
        return given.choices
    if given.low == given.high:
        return [given.low]
    if n_points is not None:
        return _spread(given, n_points)
    if isinstance(given, IntRange):
        return range(given.low, given.high + 1, given.step)
    return [space.at_step(given, k) for k in range(space.last_step(given) + 1)]


def _spread(given: IntRange | FloatRange, n_points: int) -> list[float] | list[int]:
    """Evenly spaced from end to end, on the range's steps where it has some, each value once."""
    shares = [i / (n_points - 1) for i in range(n_points)]
    if given.step is None:
        assert isinstance(given, FloatRange)
        return [_between(given, share) for share in shares]
    last = space.last_step(given)
    steps = sorted(
        {min(last, round((_between(given, s) - given.low) / given.step)) for s in shares}
    )
    if isinstance(given, IntRange):
        return [given.low + k * given.step for k in steps]
    return [space.at_step(given, k) for k in steps]


def _between(given: IntRange | FloatRange, share: float) -> float:
    """`share` of the way from the lower to the upper end: 0.001, not 0.0009999999999999998."""
    low, high = float(given.low), float(given.high)
    if share in (0, 1):
        return high if share else low
    if given.log:
        value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    else:
        value = low + share * (high - low)
    return min(max(float(f"{value:.14g}"), low), high)


# --- which point a trial is -----------------------------------------------------------------


def _places(given: Distribution, values: Sequence[ParamValue]) -> dict[int | None, int]:
    if isinstance(given, Choice):
        return {
            next(i for i, choice in enumerate(given.choices) if space.same(choice, value)): place
            for place, value in enumerate(values)
        }
    numbers = [float(value) for value in values]  # type: ignore[arg-type]
    return {_key(given, number): place for place, number in enumerate(numbers)}


def _key(given: Distribution, number: float) -> int | None:
    """What tells the values of a parameter apart, from the number a row has; None outside of it."""
    if isinstance(given, Choice):
        return int(number)
    if not given.low <= number <= given.high:
        return None
    if isinstance(given, IntRange):
        return int(number)
    low, high = given.low, given.high
    if low == high:
        return 0
    if given.log:
        low, high, number = math.log(low), math.log(high), math.log(number)
    return round((number - low) / (high - low) * RESOLUTION)


def _build(cube: Cube, options: GridOptions) -> GridSampler:
    return GridSampler(cube, options)


GRID = SamplerEntry(
    options=GridOptions, build=_build, check_space=check, seeded="study", listed=True
)
