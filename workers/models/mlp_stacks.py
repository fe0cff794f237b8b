"""How perceptrons that differ in form lie side by side: designs, stacks of them, their numbers.

A stack is a run of lanes that are computed together, one batched product a layer: its layers are
padded to the widest lane, and its deepest lanes stand first, so that a layer works on the lanes
from the first to the last that has it. Padding costs products, another stack costs calls; which
is cheaper is estimated, and a pass gets the stacks that cost least.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from torch import Tensor

from hpo_service.catalog.mlp import Normalization

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ends:
    """What all lanes have in common: the columns of a row, and what comes out.

    `blocks` are the one-hot columns [start, stop) that `embedding` numbers stand for; empty
    without embeddings.
    """

    inputs: int
    outputs: int
    embedding: int = 0
    blocks: tuple[tuple[int, int], ...] = ()

    @property
    def first(self) -> int:
        """Inputs of the first layer."""
        return self.inputs + sum(self.embedding - (stop - start) for start, stop in self.blocks)


@dataclass(frozen=True)
class Design:
    """One lane's network: hidden `widths`, first to last, and what its layers do."""

    widths: tuple[int, ...]
    activation: str
    leaky_slope: float = 0.0
    bias: bool = True
    normalization: Normalization = "none"

    @property
    def depth(self) -> int:
        return len(self.widths)

    @property
    def applied(self) -> tuple[str, float]:
        """Activation and its slope."""
        return self.activation, self.leaky_slope if self.activation == "leaky_relu" else 0.0


@dataclass(frozen=True)
class Entry:
    """An array of a lane in its row of numbers: where it starts, and its shape with padding.

    `axes`: the hidden layers whose widths the two axes are; None where nothing is padded.
    """

    name: str
    start: int
    shape: tuple[int, int]
    axes: tuple[int | None, int | None]

    @property
    def stop(self) -> int:
        return self.start + self.shape[0] * self.shape[1]

    def of(self, flat: Tensor) -> Tensor:
        """The array of several lanes, (lanes, *shape), of (lanes, numbers)."""
        return flat[:, self.start : self.stop].view(-1, *self.shape)

    def real(self, design: Design) -> tuple[int, int]:
        """The shape without padding."""
        one, two = (
            size if axis is None else design.widths[axis]
            for size, axis in zip(self.shape, self.axes, strict=True)
        )
        return one, two


@dataclass(frozen=True)
class Stack:
    """The lanes from `start` on that `designs` says, deepest first, padded to `widths`.

    Where `slopes`, a number a layer is kept for the slope that prelu learns.
    """

    start: int
    designs: tuple[Design, ...]
    widths: tuple[int, ...]
    slopes: bool
    ends: Ends

    @property
    def lanes(self) -> slice:
        return slice(self.start, self.start + len(self.designs))

    @property
    def numbers(self) -> int:
        """Numbers of a row, for the largest network of the stack: one that ends in a wide layer may
        have more than a deeper one that ends in a narrow one.
        """
        return max(self.entries(depth)[-1].stop for depth, _ in self.depths)

    def holds(self, lane: int) -> bool:
        return self.start <= lane < self.start + len(self.designs)

    def count(self, layer: int) -> int:
        """Lanes that have this hidden layer: the first so many."""
        return sum(design.depth > layer for design in self.designs)

    @cached_property
    def depths(self) -> list[tuple[int, slice]]:
        """Each depth and the lanes of the stack that have it."""
        return _runs([design.depth for design in self.designs])

    def activations(self, layer: int) -> list[tuple[tuple[str, float], slice]]:
        """Each activation of a hidden layer and the lanes of the stack that it is applied to."""
        return _runs([design.applied for design in self.designs[: self.count(layer)]])

    def keep(self, lanes: Sequence[int], start: int) -> Stack:
        """These lanes of the stack only; their numbers stay where they are."""
        return replace(self, start=start, designs=tuple(self.designs[lane] for lane in lanes))

    def entries(self, depth: int) -> list[Entry]:
        """The arrays of a lane of this depth, those of hidden layers alike for every depth.

        Weights of hidden layers lie (inputs, outputs), those of the last layer (outputs, inputs):
        products with few columns are slow (measured: 3x).
        """
        found: list[Entry] = []
        for name, shape, axes in self._arrays(depth):
            found.append(Entry(name, found[-1].stop if found else 0, shape, axes))
        return found

    def _arrays(
        self, depth: int
    ) -> Iterator[tuple[str, tuple[int, int], tuple[int | None, int | None]]]:
        design, ends = self.designs[0], self.ends
        for block, (start, stop) in enumerate(ends.blocks):
            yield f"embeddings.{block}.weight", (stop - start, ends.embedding), (None, None)
        below, axis = ends.first, None
        for at, width in enumerate(self.widths[:depth]):
            name = f"layers.{at}"
            yield f"{name}.weight", (below, width), (axis, at)
            # The batch's mean takes any bias away again; the shift stands for it.
            if design.bias and design.normalization != "batch":
                yield f"{name}.bias", (1, width), (None, at)
            if self.slopes:
                yield f"{name}.slope", (1, 1), (None, None)
            if design.normalization != "none":
                yield f"{name}.scale", (1, width), (None, at)
                yield f"{name}.shift", (1, width), (None, at)
            below, axis = width, at
        yield f"layers.{depth}.weight", (ends.outputs, below), (None, axis)
        if design.bias:
            yield f"layers.{depth}.bias", (ends.outputs, 1), (None, None)


def alone(design: Design, ends: Ends) -> Stack:
    """One lane without padding."""
    return _stack([design], ends, 0)


def stacked(designs: Sequence[Design], ends: Ends, rows: int, cost: Cost) -> list[Stack]:
    """The stacks of consecutive lanes that cost least for steps of so many rows."""
    runs = _runs(list(designs))
    # cheapest[n]: the cost of the first n runs, and where their last stack begins.
    cheapest: list[tuple[float, int]] = [(0.0, 0)]
    for stop in range(1, len(runs) + 1):
        found = []
        for start in range(stop - 1, -1, -1):
            if start < stop - 1 and not _may_follow(runs[start][0], runs[start + 1][0]):
                break
            counts = [(design, lanes.stop - lanes.start) for design, lanes in runs[start:stop]]
            found.append((cheapest[start][0] + cost.of(counts, ends, rows), start))
        cheapest.append(min(found))
    made: list[Stack] = []
    stop = len(runs)
    while stop:
        start = cheapest[stop][1]
        lanes = slice(runs[start][1].start, runs[stop - 1][1].stop)
        made.append(_stack(designs[lanes], ends, lanes.start))
        stop = start
    return made[::-1]


@dataclass(frozen=True)
class Cost:
    """Microseconds of a step's parts, roughly: `call` of an operation whatever its size, `product`
    of a thousand multiplications and additions, `value` of a thousand values passed over once.
    """

    call: float
    product: float
    value: float

    def of(self, counts: Sequence[tuple[Design, int]], ends: Ends, rows: int) -> float:
        """One step of a stack of these lanes."""
        widths, total, below = _padded([design for design, _ in counts]), 0.0, ends.first
        for at, width in enumerate(widths):
            having = [(design, lanes) for design, lanes in counts if design.depth > at]
            applied = len(_runs([design.applied for design, _ in having]))
            total += self.call * (CALLS + 2 * applied)
            lanes = sum(lanes for _, lanes in having)
            products, values = 3 * rows * below * width, VALUES * rows * width + 2 * below * width
            total += lanes * (self.product * products + self.value * values) / 1000
            below = width
        depths = {design.depth: widths[design.depth - 1] for design, _ in counts if design.depth}
        lanes_of = {depth: sum(n for d, n in counts if d.depth == depth) for depth in depths}
        for depth, width in depths.items():
            products = 3 * rows * width * ends.outputs
            total += self.call * CALLS + lanes_of[depth] * self.product * products / 1000
        return total


# Calls that a layer takes beside its activations, and how often its values are passed over.
CALLS, VALUES = 6, 8
# Of one thread of an AMD EPYC: products are near its peak with the lanes of one trial already.
CPU = Cost(call=4.0, product=0.03, value=0.25)
# Assumed, not measured: launches cost more there and products next to nothing, so lanes are padded
# wherever they may be.
ACCELERATOR = Cost(call=10.0, product=0.0005, value=0.001)


def _stack(designs: Sequence[Design], ends: Ends, start: int) -> Stack:
    slopes = any(design.activation == "prelu" for design in designs)
    return Stack(start, tuple(designs), _padded(designs), slopes, ends)


def _padded(designs: Sequence[Design]) -> tuple[int, ...]:
    columns = itertools.zip_longest(*(design.widths for design in designs), fillvalue=0)
    return tuple(max(column) for column in columns)


def _may_follow(one: Design, two: Design) -> bool:
    """Whether two designs can be lanes of one stack in this order."""
    alike = (one.bias, one.normalization) == (two.bias, two.normalization)
    # Normalising over padding would need its own arithmetic.
    unpadded = one.normalization == "none" or one.widths == two.widths
    return alike and unpadded and one.depth >= two.depth and bool(one.depth) == bool(two.depth)


def _runs(values: Sequence[Value]) -> list[tuple[Value, slice]]:
    found, start = [], 0
    for value, some in itertools.groupby(values):
        stop = start + sum(1 for _ in some)
        found.append((value, slice(start, stop)))
        start = stop
    return found
