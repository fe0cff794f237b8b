"""Every combination once, in a fixed order: the next point is the first not in the study.

Points are enumerated lazily and never stored. What is not active is no part of a point, so points
that would differ only there are one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated, Any

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
from hpo_service.seen import Seen
from hpo_service.space import Space

Point = dict[str, ParamValue]
Key = tuple[tuple[str, int], ...]

# Values closer than this part of their range are one: much less than two points can be apart.
RESOLUTION = 10**9
# Of one parameter.
MAX_POINTS = 10_000


class GridOptions(Options):
    """Every combination once, in a fixed order; a float range needs a step or `points`."""

    points: dict[str, Annotated[int, Field(ge=2, le=MAX_POINTS)]] = Field(
        default_factory=dict,
        description="How many values of a range: evenly spaced, both ends, in log for log.",
    )


class GridSampler:
    """Proposes the first points of the grid that no trial of the study has, in whatever state."""

    def __init__(self, cube: Cube, options: GridOptions) -> None:
        self.cube, self.space, self.options = cube, cube.space, options

    def propose(self, seen: Seen, ask: Ask) -> list[Suggestion]:
        """The next points that agree with the fixed parameters, if there are any."""
        rows = seen.rows[self.cube.inside(seen.rows)]
        stored = {key_of(self.space, self.cube.params(row)) for row in rows}
        fresh = (
            point
            for point in points(self.space, self.options, ask.fixed)
            if key_of(self.space, point) not in stored
        )
        found = list(islice(fresh, ask.count))
        if not found and ask.fixed:  # a manual trial is evaluated in any case
            found = [next(points(self.space, self.options, ask.fixed))]
        return [Suggestion(point) for point in found]


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


def points(searched: Space, options: GridOptions, fixed: space.Params) -> Iterator[Point]:
    """All points, the last parameter changing fastest; `fixed` ones have one value only."""
    axes = {
        name: [fixed[name]] if name in fixed else axis(given, options.points.get(name))
        for name, given in searched.items()
    }
    return _walk(searched, space.order(searched), axes, {})


def count(searched: Space, options: GridOptions) -> int:
    """The number of points; counting ends as soon as it is beyond `MAX_GRID_POINTS`.

    Only parameters that others depend on are enumerated, all others multiplied.
    """
    sizes = {name: size(d, options.points.get(name)) or 0 for name, d in searched.items()}
    always = math.prod(sizes[name] for name, d in searched.items() if not d.when)
    if max(always, *sizes.values()) > MAX_GRID_POINTS:
        return max(always, *sizes.values())
    deciding = {parent for d in searched.values() for parent in d.when or {}}
    axes = {name: axis(searched[name], options.points.get(name)) for name in deciding}
    order = [name for name in space.order(searched) if name in deciding]
    free = [name for name in searched if name not in deciding]
    total = 0
    for branch in _walk(searched, order, axes, {}):
        total += math.prod(sizes[n] for n in free if space.active(searched, n, branch))
        if total > MAX_GRID_POINTS:
            break
    return total


def _walk(
    searched: Space, names: Sequence[str], axes: dict[str, Sequence[ParamValue]], chosen: Point
) -> Iterator[Point]:
    if not names:
        yield chosen
        return
    name, rest = names[0], names[1:]
    if not space.active(searched, name, chosen):
        yield from _walk(searched, rest, axes, chosen)
        return
    for value in axes[name]:
        yield from _walk(searched, rest, axes, chosen | {name: value})


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


GRID = SamplerEntry(options=GridOptions, build=_build, check_space=check, listed=True)
