"""A search space: what makes sense in it, and its parameters in the order they are chosen.

A parameter with a `when` exists only where each parameter it names has one of the values listed.
Walking parents before children decides that at any depth: what is not active is neither sampled
nor stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from hpo_service import catalog, errors, protocol

Space = Mapping[str, protocol.Distribution]
Params = Mapping[str, protocol.ParamValue]

# Samplers count in doubles, which are exact to here.
MAX_EXACT = 2**53


# --- checks ---------------------------------------------------------------------------------


def check(space: Space) -> None:
    """Raise `InvalidRequest` where a range cannot be sampled or a `when` can never be true."""
    wrong = [found for name in space for found in _wrong(space, name)]
    if not wrong:
        wrong = [
            errors.FieldError(f"search_space.{name}.when", "the conditions run in a circle: cut it")
            for name in sorted(set(space) - set(order(space)))
        ]
    _refuse(wrong)


def labelled(space: Space, params: Params) -> dict[str, protocol.ParamValue]:
    """The parameters under the names that the space has for them.

    `learning_rate` becomes `learning_rate@sgd` where the space has such names alone and the
    conditions of one of them hold.
    """
    return {_name_in(space, name, params): value for name, value in params.items()}


def _name_in(space: Space, name: str, params: Params) -> str:
    if name in space:
        return name
    ranges = [each for each in space if catalog.plain(each) == name]
    fitting = [each for each in ranges if active(space, each, params)]
    if len(fitting) == 1:
        return fitting[0]
    parents = sorted({parent for each in ranges for parent in space[each].when or {}})
    if parents and any(parent not in params for parent in parents):
        raise errors.invalid(
            f"params.{name}",
            f"has a range for each {' and '.join(parents)}: give that too, or one of "
            f"{', '.join(ranges)}",
        )
    return name


def check_params(space: Space, params: Params) -> None:
    """Raise `InvalidRequest` unless `params` may be evaluated as they are.

    They may leave parameters out, but none that decides whether a given one is active.
    """
    wrong = []
    for name, value in params.items():
        problem = _problem_of(space, name, value, params)
        if problem:
            wrong.append(errors.FieldError(f"params.{name}", problem))
    _refuse(wrong)


def possible(distribution: protocol.Distribution, value: protocol.ParamValue) -> bool:
    """Whether the parameter can take this value."""
    return problem(distribution, value) is None


def problem(distribution: protocol.Distribution, value: protocol.ParamValue) -> str | None:
    """What is wrong with this value for the parameter, as a sentence; None where nothing is."""
    if isinstance(distribution, protocol.Choice):
        listed = any(same(value, choice) for choice in distribution.choices)
        return None if listed else f"{value!r} is not one of {distribution.choices}"
    whole = isinstance(distribution, protocol.IntRange)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        return f"{value!r} is not a {'whole ' if whole else ''}number"
    if not distribution.low <= value <= distribution.high:
        return f"{value!r} is outside {distribution.low} to {distribution.high}"
    if distribution.step is not None and not _on_lattice(distribution, value):
        return f"{value!r} is not a number of steps of {distribution.step} from {distribution.low}"
    return None


def nearest(distribution: protocol.Distribution, value: protocol.FixedValue) -> protocol.ParamValue:
    """The value itself where the parameter can take it, else one of those nearest to it.

    Without an order to be near in, the first choice or the lower end.
    """
    if not isinstance(value, list) and possible(distribution, value):
        return value
    if isinstance(distribution, protocol.Choice):
        return distribution.choices[0]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return distribution.low
    clipped = min(max(value, distribution.low), distribution.high)
    if distribution.step is None:
        return clipped
    steps = min(round((clipped - distribution.low) / distribution.step), last_step(distribution))
    if isinstance(distribution, protocol.IntRange):
        return distribution.low + steps * distribution.step
    return at_step(distribution, steps)


def _wrong(space: Space, name: str) -> Iterator[errors.FieldError]:
    distribution, field = space[name], f"search_space.{name}"
    if isinstance(distribution, protocol.IntRange):
        for end in ("low", "high"):
            if abs(getattr(distribution, end)) > MAX_EXACT:
                message = "whole numbers beyond 2**53 are not told apart: take smaller ones"
                yield errors.FieldError(f"{field}.{end}", message)
    if isinstance(distribution, protocol.FloatRange) and not _countable(distribution):
        message = "the steps are too many, or not exact in 17 digits: take a rounder step or none"
        yield errors.FieldError(f"{field}.step", message)
    for parent, values in (distribution.when or {}).items():
        message = _wrong_condition(space, name, parent, values)
        if message:
            yield errors.FieldError(f"{field}.when.{parent}", message)


def _countable(given: protocol.FloatRange) -> bool:
    if given.step is None:
        return True
    if (given.high - given.low) / MAX_EXACT > given.step:
        return False
    last = _decimal(at_step(given, last_step(given)))
    return (last - _decimal(given.low)) % _decimal(given.step) == 0


def _wrong_condition(
    space: Space, name: str, parent: str, values: list[protocol.ParamValue]
) -> str:
    if parent not in space:
        return f"{parent!r} is not a parameter of this search space: take one that is"
    if parent == name:
        return "a parameter cannot depend on itself: name another one"
    on = space[parent]
    if isinstance(on, protocol.FloatRange) and on.step is None:
        return f"{parent!r} almost never equals a number: give it a step or choices"
    problems = [found for value in values if (found := problem(on, value))]
    return f"never true: {problems[0]}" if problems else ""


def _problem_of(space: Space, name: str, value: protocol.ParamValue, params: Params) -> str | None:
    if name not in space:
        return f"unknown parameter: take some of {', '.join(space)}"
    for parent, values in (space[name].when or {}).items():
        if parent not in params:
            return f"depends on {parent!r}: give that too"
        if not any(same(params[parent], v) for v in values):
            return f"is used only where {parent!r} is one of {values}: leave it out"
    return problem(space[name], value)


def _refuse(wrong: list[errors.FieldError]) -> None:
    if wrong:
        sentence = "; ".join(f"{w.field}: {w.message}" for w in wrong)
        raise errors.InvalidRequest(sentence, fields=tuple(wrong))


# --- walking --------------------------------------------------------------------------------


def order(space: Space) -> list[str]:
    """Parents before children, otherwise as declared; members of a circle are left out."""
    placed: dict[str, None] = {}
    while ready := [
        name
        for name in space
        if name not in placed and all(p in placed for p in space[name].when or {})
    ]:
        placed.update(dict.fromkeys(ready))
    return list(placed)


def active(space: Space, name: str, params: Params) -> bool:
    """Whether the parameter exists beside `params`, which hold all of its active parents."""
    return all(
        parent in params and any(same(params[parent], v) for v in values)
        for parent, values in (space[name].when or {}).items()
    )


def is_complete(space: Space, params: Params) -> bool:
    """Whether nothing is left to choose."""
    return all(name in params for name in order(space) if active(space, name, params))


def projected(space: Space, values: Mapping[str, protocol.FixedValue]) -> Params:
    """The point of the space that is nearest to a setting, by hyperparameters' plain names."""
    found: dict[str, protocol.ParamValue] = {}
    for name in order(space):
        if active(space, name, found):
            found[name] = nearest(space[name], values.get(catalog.plain(name)))
    return found


def same(one: protocol.ParamValue, other: protocol.ParamValue) -> bool:
    """Equality, but for the rounding of floats that were reached by steps."""
    if isinstance(one, int | float) and isinstance(other, int | float):
        rounded = isinstance(one, float) or isinstance(other, float)
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12) if rounded else one == other
    return one == other


# --- distributions --------------------------------------------------------------------------


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Optuna's distribution of each parameter, parents before children."""
    return {name: distribution(space[name]) for name in order(space)}


def distribution(given: protocol.Distribution) -> BaseDistribution:
    """Optuna's distribution; the upper end is the last step, which Optuna would warn about."""
    if isinstance(given, protocol.Choice):
        return CategoricalDistribution(given.choices)
    if isinstance(given, protocol.IntRange):
        high = given.low + last_step(given) * given.step
        return IntDistribution(given.low, high, log=given.log, step=given.step)
    if given.step is None:
        return FloatDistribution(given.low, given.high, log=given.log)
    return FloatDistribution(given.low, at_step(given, last_step(given)), step=given.step)


def last_step(given: protocol.IntRange | protocol.FloatRange) -> int:
    """How many steps fit between the ends of a stepped range."""
    assert given.step is not None
    if isinstance(given, protocol.IntRange):
        return (given.high - given.low) // given.step
    return int((_decimal(given.high) - _decimal(given.low)) // _decimal(given.step))


def at_step(given: protocol.FloatRange, k: int) -> float:
    """The number k steps above the lower end, in decimals: 0.1 + 2 * 0.1 is 0.3."""
    assert given.step is not None
    return float(_decimal(given.low) + k * _decimal(given.step))


def _decimal(number: float) -> Decimal:
    return Decimal(str(number))


def _on_lattice(given: protocol.IntRange | protocol.FloatRange, value: float) -> bool:
    assert given.step is not None
    if isinstance(given, protocol.IntRange):
        return (value - given.low) % given.step == 0
    # Optuna's own tolerance.
    steps = (value - given.low) / given.step
    return abs(steps - round(steps)) < 1e-8
