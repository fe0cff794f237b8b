"""Every combination once: the next point is the first not in the study.

Points are numbered, and made from their numbers when their turn comes. What is not active is no
part of a point, so points that would differ only there are one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from hpo_service import errors, space
from hpo_service.cube import Cube
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
Key = tuple[tuple[str, int], ...]

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
        self._taken: set[Key] = set()
        self._known = 0
        self._ahead: list[Point] = []
        self._rest: Iterator[Point] | None = None

    def propose(self, seen: Seen, ask: Ask) -> list[Suggestion]:
        """The next points that agree with the fixed parameters, if there are any."""
        waiting = self._note(seen)
        if ask.fixed:
            return self._agreeing(waiting, ask)
        if self._rest is None:
            self._rest = self._points(ask)
        self._ahead = [point for point in self._ahead if self._key(point) not in self._taken]
        # What was proposed may not have been stored: points leave the list when they are.
        found = [point for point in self._ahead if self._key(point) not in waiting][: ask.count]
        while len(found) < ask.count and (point := next(self._rest, None)) is not None:
            if (key := self._key(point)) not in self._taken:
                self._ahead.append(point)
                found += [] if key in waiting else [point]
        return [Suggestion(point) for point in found]

    def _agreeing(self, waiting: set[Key], ask: Ask) -> list[Suggestion]:
        stored = self._taken | waiting
        fresh = (point for point in self._points(ask) if self._key(point) not in stored)
        found = list(islice(fresh, ask.count))
        if not found:  # a manual trial is evaluated in any case
            found = list(islice(self._points(ask), 1))
        return [Suggestion(point) for point in found]

    def _points(self, ask: Ask) -> Iterator[Point]:
        """The points of the grid in the order they are tried, without those that break a rule."""
        numbered = Grid(self.cube.space, self.options, ask.fixed)
        for number in range(len(numbered)):
            at = _shuffled(number, len(numbered), ask.seed) if self.options.shuffle else number
            point = numbered.point(at)
            if not self.cube.constraints or self.cube.feasible(self.cube.rows([point])).all():
                yield point

    def _note(self, seen: Seen) -> set[Key]:
        """Remember the points of trials; of those that wait, and may get more parameters, apart."""
        fresh = np.arange(self._known, len(seen))
        waits = np.flatnonzero(seen.states == CODES["waiting"])
        self._taken |= self._keys(seen, np.setdiff1d(fresh, waits))
        # From the first that waits on they are read again.
        self._known = int(waits[0]) if len(waits) else len(seen)
        return self._keys(seen, waits)

    def _keys(self, seen: Seen, numbers: Any) -> set[Key]:
        rows = seen.rows[numbers]
        return {self._key(self.cube.params(row)) for row in rows[self.cube.inside(rows)]}

    def _key(self, point: space.Params) -> Key:
        return key_of(self.cube.space, point)


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
            if not space.active(self.space, name, chosen):
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
        if not space.active(self.space, name, chosen):
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


def key_of(searched: Space, params: space.Params) -> Key:
    """What tells points apart: each parameter's place in its range; empty for no point at all."""
    if not all(n in searched and space.possible(searched[n], v) for n, v in params.items()):
        return ()
    return tuple((n, _place(searched[n], params[n])) for n in searched if n in params)


def _place(given: Distribution, value: Any) -> int:
    if isinstance(given, Choice):
        return next(i for i, choice in enumerate(given.choices) if space.same(choice, value))
    if isinstance(given, IntRange):
        return int(value)
    low, high, number = given.low, given.high, float(value)
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
