"""Rules that settings have to meet, such as `hidden_units * hidden_layers <= 1024`.

A rule is read as a Python expression, but never run as one: only numbers, texts, parameters,
arithmetic, comparisons, `and or not`, `in` and a few functions are known, and they are computed
here, over columns of many settings at once. A rule that names a parameter which a setting does not
have is met by it.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpo_service import catalog, errors, protocol
from hpo_service.cube import Cube, Rows
from hpo_service.protocol import Choice
from hpo_service.space import Params, Space

Kind = Literal["number", "text", "truth"]
Column = NDArray[Any]
Columns = Mapping[str, Column]

MAX_DEPTH = 50
# Points of the space that are tried before its rules are held to be impossible.
DRAWN = 10_000
ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
FUNCTIONS: dict[str, tuple[Callable[..., Any], int]] = {  # with the least number of arguments
    "abs": (np.abs, 1),
    "exp": (np.exp, 1),
    "log": (np.log, 1),
    "log2": (np.log2, 1),
    "log10": (np.log10, 1),
    "sqrt": (np.sqrt, 1),
    "min": (lambda *given: np.minimum.reduce(np.broadcast_arrays(*given)), 2),
    "max": (lambda *given: np.maximum.reduce(np.broadcast_arrays(*given)), 2),
}
ALLOWED = (
    "a rule compares parameters and numbers with + - * / // % ** < <= > >= == != in, joined by "
    f"and, or, not; functions: {', '.join(FUNCTIONS)}"
)


@dataclass(frozen=True)
class Constraint:
    """A rule that was understood: `names` are the parameters of the space that it looks at."""

    text: str
    names: frozenset[str]
    _compute: Callable[[Columns], Column]

    def met(self, cube: Cube, rows: Rows) -> NDArray[np.bool_]:
        """Which of the rows (points, parameters) meet it."""
        columns: dict[str, Column] = {}
        lacking = np.zeros(len(rows), dtype=bool)
        for name in self.names:
            columns[name], absent = _column(cube, name, rows)
            lacking |= absent
        with np.errstate(all="ignore"):  # what cannot be computed is not met
            met = np.broadcast_to(self._compute(columns), len(rows))
        return np.asarray(met | lacking, dtype=bool)


def parse(texts: Sequence[str], searched: Space, fixed: Mapping[str, Any]) -> list[Constraint]:
    """The rules, about parameters of the space and such as are `fixed` for all trials.

    Raises `InvalidRequest` that names the rule and says what is wrong with it.
    """
    found = []
    for at, text in enumerate(texts):
        try:
            found.append(_parse(text, searched, fixed))
        except _NotUnderstood as problem:
            raise errors.invalid(f"constraints.{at}", f"{text!r}: {problem}") from None
    return found


def cube_of(spec: protocol.StudySpec) -> Cube:
    """The search space of a study, with its rules; raises `InvalidRequest` as `parse` does."""
    objective, fixed = spec.objective, {}
    if isinstance(objective, protocol.TrainObjective):
        family = catalog.FAMILIES[objective.model]
        fixed = family.hyperparameters().model_dump() | dict(objective.params)
    elif isinstance(objective, protocol.CustomObjective):
        fixed = dict(objective.params)
    searched = spec.search_space or {}
    return Cube(searched, parse(spec.constraints, searched, fixed))


def check_params(cube: Cube, params: Params) -> None:
    """Raise `InvalidRequest` where the parameters, as far as they are given, break a rule."""
    rows = cube.rows([params])
    for at, constraint in enumerate(cube.constraints):
        if not constraint.met(cube, rows)[0]:
            raise errors.invalid("params", f"break the study's rule constraints.{at}")


def check_possible(cube: Cube) -> None:
    """Raise `InvalidRequest` where no point of the space seems to meet all rules."""
    if not cube.constraints:
        return
    draws = np.random.default_rng(0).random((DRAWN, len(cube.names)))
    rows = cube.values(draws, np.full(len(cube.names), np.nan))
    if not cube.feasible(rows).any():
        raise errors.invalid(
            "constraints", f"none of {DRAWN:,} points of the space meets them all: loosen one"
        )


class _NotUnderstood(Exception):
    """What is wrong with a rule, as a sentence."""


@dataclass(frozen=True)
class _Part:
    """A part of a rule: what it yields, and how."""

    kind: Kind
    compute: Callable[[Columns], Column]


def _parse(text: str, searched: Space, fixed: Mapping[str, Any]) -> Constraint:
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise _NotUnderstood(f"cannot be read: {ALLOWED}") from None
    reader = _Reader(searched, fixed)
    part = reader.part(tree, 0)
    if part.kind != "truth":
        raise _NotUnderstood("is no comparison: write for example `a * b <= 1024`")
    if not reader.names:
        raise _NotUnderstood("names no parameter of the search space")
    return Constraint(text, frozenset(reader.names), part.compute)


class _Reader:
    """Turns a syntax tree into a computation; raises `_NotUnderstood` for all it does not know."""

    def __init__(self, searched: Space, fixed: Mapping[str, Any]) -> None:
        self.searched, self.fixed = searched, fixed
        self.names: set[str] = set()

    def part(self, node: ast.expr, depth: int) -> _Part:
        if depth > MAX_DEPTH:
            raise _NotUnderstood("is nested too deeply")
        reading = {
            ast.Constant: self._constant,
            ast.Name: self._name,
            ast.BinOp: self._arithmetic,
            ast.UnaryOp: self._unary,
            ast.BoolOp: self._joined,
            ast.Compare: self._compared,
            ast.Call: self._called,
        }.get(type(node))
        if reading is None:
            raise _NotUnderstood(f"cannot hold `{ast.unparse(node):.40}`: {ALLOWED}")
        return reading(node, depth + 1)  # type: ignore[operator, no-any-return]

    def _constant(self, node: ast.Constant, _depth: int) -> _Part:
        return _constant(node.value)

    def _name(self, node: ast.Name, _depth: int) -> _Part:
        kinds = {
            _kind_of(given)
            for name, given in self.searched.items()
            if node.id in (name, catalog.plain(name))
        }
        if len(kinds) == 1:
            self.names.add(node.id)
            return _Part(kinds.pop(), operator.itemgetter(node.id))
        if kinds:
            raise _NotUnderstood(f"{node.id} is a number in one range and a text in another")
        if node.id in self.fixed:
            return _constant(self.fixed[node.id])
        raise _NotUnderstood(f"{node.id} is no parameter: take some of {', '.join(self.searched)}")

    def _arithmetic(self, node: ast.BinOp, depth: int) -> _Part:
        apply = ARITHMETIC.get(type(node.op))
        if apply is None:
            raise _NotUnderstood(f"cannot hold `{ast.unparse(node):.40}`: {ALLOWED}")
        left, right = self._numbers([node.left, node.right], depth)
        return _Part("number", lambda given: apply(left(given), right(given)))

    def _unary(self, node: ast.UnaryOp, depth: int) -> _Part:
        if isinstance(node.op, ast.Not):
            part = self.part(node.operand, depth)
            if part.kind != "truth":
                raise _NotUnderstood(f"`{ast.unparse(node):.40}`: only a comparison can be negated")
            return _Part("truth", lambda given: np.logical_not(part.compute(given)))
        if not isinstance(node.op, ast.USub | ast.UAdd):
            raise _NotUnderstood(f"cannot hold `{ast.unparse(node):.40}`: {ALLOWED}")
        (operand,) = self._numbers([node.operand], depth)
        sign = -1.0 if isinstance(node.op, ast.USub) else 1.0
        return _Part("number", lambda given: sign * operand(given))

    def _joined(self, node: ast.BoolOp, depth: int) -> _Part:
        parts = [self.part(each, depth) for each in node.values]
        if any(part.kind != "truth" for part in parts):
            raise _NotUnderstood(f"`{ast.unparse(node):.40}`: only comparisons can be joined")
        join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or

        def compute(given: Columns) -> Column:
            truths = np.broadcast_arrays(*(part.compute(given) for part in parts))
            return np.asarray(join.reduce(truths))

        return _Part("truth", compute)

    def _compared(self, node: ast.Compare, depth: int) -> _Part:
        """`a < b <= c` too: each neighbour with the next, all of them true."""
        links = []
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            links.append(self._link(left, op, right, depth))
            left = right

        def compute(given: Columns) -> Column:
            truths = np.broadcast_arrays(*(link(given) for link in links))
            return np.asarray(np.logical_and.reduce(truths))

        return _Part("truth", compute)

    def _link(
        self, left: ast.expr, op: ast.cmpop, right: ast.expr, depth: int
    ) -> Callable[[Columns], Column]:
        if isinstance(op, ast.In | ast.NotIn) and isinstance(right, ast.List | ast.Tuple):
            any_of = [self._link(left, ast.Eq(), each, depth) for each in right.elts]
            if not any_of:
                raise _NotUnderstood("`in` needs values to be one of")
            wanted = isinstance(op, ast.In)
            return lambda given: np.logical_or.reduce([e(given) for e in any_of]) == wanted
        compare = COMPARISONS.get(type(op))
        one, other = self.part(left, depth), self.part(right, depth)
        if compare is None:
            raise _NotUnderstood("`in` needs a list of values, such as `in [1, 2]`")
        if one.kind != other.kind:
            raise _NotUnderstood(f"a {one.kind} is compared with a {other.kind}")
        if one.kind != "number" and not isinstance(op, ast.Eq | ast.NotEq):
            raise _NotUnderstood(f"a {one.kind} has no order: only == and != are known for it")
        return lambda given: compare(one.compute(given), other.compute(given))

    def _called(self, node: ast.Call, depth: int) -> _Part:
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS or node.keywords:
            raise _NotUnderstood(f"cannot hold `{ast.unparse(node):.40}`: {ALLOWED}")
        function, least = FUNCTIONS[node.func.id]
        if len(node.args) < least or (least == 1 and len(node.args) > 1):
            raise _NotUnderstood(f"{node.func.id} needs {'one' if least == 1 else 'two'} or more")
        given_parts = self._numbers(node.args, depth)
        return _Part("number", lambda given: function(*(part(given) for part in given_parts)))

    def _numbers(self, nodes: Sequence[ast.expr], depth: int) -> list[Callable[[Columns], Column]]:
        parts = [self.part(node, depth) for node in nodes]
        for node, part in zip(nodes, parts, strict=True):
            if part.kind != "number":
                raise _NotUnderstood(f"`{ast.unparse(node):.40}` is a {part.kind}, not a number")
        return [part.compute for part in parts]


def _constant(value: Any) -> _Part:
    if isinstance(value, bool):
        return _Part("truth", lambda _given: np.array(value))
    if isinstance(value, int | float):
        return _Part("number", lambda _given: np.array(float(value)))
    if isinstance(value, str):
        return _Part("text", lambda _given: np.array(value, dtype=object))
    raise _NotUnderstood(f"{value!r:.40} can be compared with nothing")


def _kind_of(given: protocol.Distribution) -> Kind:
    if not isinstance(given, Choice) or all(_is_number(choice) for choice in given.choices):
        return "number"
    if all(isinstance(choice, bool) for choice in given.choices):
        return "truth"
    return "text"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _column(cube: Cube, name: str, rows: Rows) -> tuple[Column, NDArray[np.bool_]]:
    """The values of a parameter, and where a setting has none; of several ranges the active one."""
    ranges = [at for at, each in enumerate(cube.names) if name in (each, catalog.plain(each))]
    absent = np.isnan(rows[:, ranges])
    found = _values(cube, ranges[0], rows)
    for place, at in enumerate(ranges[1:], start=1):
        found = np.where(absent[:, place], found, _values(cube, at, rows))
    return found, np.asarray(absent.all(1))


def _values(cube: Cube, at: int, rows: Rows) -> Column:
    given, values = cube.space[cube.names[at]], rows[:, at]
    return _chosen(given, values) if isinstance(given, Choice) else values


def _chosen(given: Choice, places: Rows) -> Column:
    kind = {"number": np.float64, "truth": np.bool_, "text": object}[_kind_of(given)]
    choices: Column = np.array([*given.choices], dtype=kind)
    # Whatever stands for what is not active is not looked at.
    return np.asarray(choices[np.nan_to_num(places).astype(np.intp).clip(0, len(choices) - 1)])
