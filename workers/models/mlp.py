"""The multilayer perceptron: networks as batched matrix products, equal or not in form.

The backward pass is written out by hand, see `mlp_layers`; how lanes that differ in width, depth
and activation share a pass stands in `mlp_stacks`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hpo_service.catalog.initializations import Initialization
from hpo_service.catalog.mlp import MlpHyperparameters
from workers.models import mlp_stacks
from workers.models.activations import PRELU_START
from workers.models.base import Arrays, NetworkModel, Shape, Size
from workers.models.dropout import Masks, Site
from workers.models.initializations import INITIALIZATIONS
from workers.models.mlp_layers import Numbers, StackAtWork, Tracked, predict
from workers.models.mlp_losses import CrossEntropy, OutputLoss, SquaredError
from workers.models.mlp_stacks import Design, Ends, Entry, Stack
from workers.models.normalizations import Running

# Values of one layer that a prediction may hold at a time.
PREDICTED_AT_ONCE = 2**24
# Weights between hidden layers of a network for which calls cost more than numbers.
SMALL = 2**14


class Settings(Protocol):
    """What every lane is asked for, whatever its family."""

    @property
    def batch_size(self) -> int: ...
    @property
    def label_smoothing(self) -> float: ...
    @property
    def initialization(self) -> Initialization: ...


@dataclass(frozen=True)
class Asked:
    """What a lane's settings ask for: its design, what it leaves out, its embeddings' numbers."""

    design: Design
    input_dropout: float = 0.0
    dropout: float = 0.0
    embedding: int = 0


def asked(settings: MlpHyperparameters) -> Asked:
    """Of the multilayer perceptron."""
    design = Design(
        settings.widths,
        settings.activation,
        settings.leaky_slope,
        settings.bias,
        settings.normalization,
    )
    return Asked(design, settings.input_dropout, settings.dropout, settings.embedding)


class Mlp:
    """Lanes of perceptrons; see `base.Network`.

    They agree in `embedding`, and where there is a normalization in that and their widths.
    """

    rates: Tensor | None = None

    def __init__(
        self, settings: Sequence[Any], rngs: Sequence[np.random.Generator], shape: Shape
    ) -> None:
        self._classes = shape.task == "classification"
        self._settings: list[Settings] = list(settings)
        self._asked = [self.asked(each) for each in settings]
        self._ends = _ends(self._asked[0], shape)
        rows = self._settings[0].batch_size
        cost = mlp_stacks.CPU if shape.device.type == "cpu" else mlp_stacks.ACCELERATOR
        designs = [each.design for each in self._asked]
        self._stacks = mlp_stacks.stacked(designs, self._ends, rows, cost)
        drawn = [self._draw(s, rng) for s, rng in zip(settings, rngs, strict=True)]
        numbers = max(stack.numbers for stack in self._stacks)
        self._set(torch.zeros(len(drawn), numbers, dtype=shape.dtype, device=shape.device))
        for lane, arrays in enumerate(drawn):
            self.pack(arrays, self.parameters, lane)
        self.statistics = self._first_statistics()
        self._rngs = list(rngs)
        self._set_masks()

    @property
    def spans(self) -> list[int]:
        """Lanes of a stack are padded to each other, not to those of another stack."""
        return [stack.numbers for stack in self._stacks for _ in stack.designs]

    def asked(self, settings: Any) -> Asked:
        """What a lane's settings ask for; for families that are perceptrons too."""
        return asked(settings)

    def start_epoch(self, steps: Sequence[int]) -> None:
        for stack, masks in zip(self._stacks, self._masks, strict=True):
            if masks:
                masks.start(steps[stack.lanes])

    def learn(self, step: int, inputs: Tensor, target: Tensor, weights: Tensor | float) -> Tensor:
        with torch.inference_mode():  # nothing is recorded for autograd: a tenth of a step
            work = self._work_for(inputs.shape[1])
            real = self._real(weights)
            for work_of, stack, masks in zip(work.stacks, self._stacks, self._masks, strict=True):
                work_of.forward(
                    inputs if len(work.stacks) == 1 else inputs[stack.lanes],
                    masks.masks(step, inputs.shape[1]) if masks else (),
                    None if real is None else real[stack.lanes],
                    self._tracked(stack),
                    work.outputs,
                )
            losses, gradient = work.loss(work.outputs, target, weights)
            for work_of in work.stacks:
                work_of.backward(gradient)
        return losses

    def predict(self, inputs: Tensor) -> Tensor:
        widest = max(max(stack.widths, default=0) for stack in self._stacks)
        values = len(inputs) * max(self._ends.inputs, self._ends.outputs, widest)
        rows = max(1, PREDICTED_AT_ONCE // values)
        with torch.no_grad():
            found = [self._predict(some) for some in torch.split(inputs, rows, dim=1)]
            return torch.cat(found, dim=1)

    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with these lanes only, in their order."""
        stacks: list[Stack] = []
        done = 0
        for stack in self._stacks:
            if kept := [lane - stack.start for lane in lanes if stack.holds(lane)]:
                stacks.append(stack.keep(kept, done))
                done += len(kept)
        self._stacks = stacks
        self._settings = [self._settings[lane] for lane in lanes]
        self._asked = [self._asked[lane] for lane in lanes]
        self.statistics = {name: found[list(lanes)] for name, found in self.statistics.items()}
        self._set(self.parameters[list(lanes)])
        self._rngs = [self._rngs[lane] for lane in lanes]
        self._set_masks()

    def arrays(self, lane: int) -> Arrays:
        statistics = {n: found[lane].cpu().numpy().copy() for n, found in self.statistics.items()}
        return self.unpack(self.parameters, lane) | statistics

    def restore(self, arrays: Arrays, lane: int) -> None:
        self.pack(arrays, self.parameters, lane)
        for name, tensor in self.statistics.items():
            tensor[lane] = torch.from_numpy(arrays[name]).to(tensor)

    def unpack(self, flat: Tensor, lane: int) -> Arrays:
        """As in `torch.nn.Linear` and `PReLU`: weights (out, in), biases (out,), slopes (1,)."""
        return {name: each.cpu().numpy().copy() for name, each in self._named(flat, lane)}

    def pack(self, arrays: Arrays, flat: Tensor, lane: int) -> None:
        for name, numbers in self._named(flat, lane):
            numbers.copy_(torch.from_numpy(np.ascontiguousarray(arrays[name])))

    def _named(self, flat: Tensor, lane: int) -> Iterator[tuple[str, Tensor]]:
        """Views of a lane's numbers, without padding."""
        stack, design = self._stack_of(lane), self._asked[lane].design
        for entry in _entries(stack, design):
            one, two = entry.real(design)
            yield (
                entry.name,
                _as_named(entry, design, entry.of(flat[lane : lane + 1])[0, :one, :two]),
            )

    def _stack_of(self, lane: int) -> Stack:
        return next(stack for stack in self._stacks if stack.holds(lane))

    def _draw(self, settings: Any, rng: np.random.Generator) -> Arrays:
        """A lane's first numbers, drawn without padding."""
        design, found = self.asked(settings).design, {}
        for entry in _entries(mlp_stacks.alone(design, self._ends), design):
            kind = entry.name.rpartition(".")[2]
            if entry.name.startswith("embeddings"):
                found[entry.name] = rng.standard_normal(entry.shape)
            elif kind == "weight":
                last = entry.name == f"layers.{design.depth}.weight"
                fan_in, fan_out = entry.shape[::-1] if last else entry.shape
                found[entry.name] = INITIALIZATIONS[settings.initialization](rng, fan_in, fan_out).T
            else:
                start = {"slope": PRELU_START, "scale": 1.0}.get(kind, 0.0)
                found[entry.name] = np.full(max(entry.shape), start)
        return found

    def _set(self, parameters: Tensor) -> None:
        self.parameters = parameters.contiguous()
        self.gradient = torch.zeros_like(self.parameters)
        self.sizes = self.parameters.new_tensor(
            [[self._size(lane)] for lane in range(len(self.parameters))]
        )
        self._numbers = [Numbers(self.parameters, stack) for stack in self._stacks]
        self._gradients = [Numbers(self.gradient, stack) for stack in self._stacks]
        self._work: dict[int, _Work] = {}

    def _size(self, lane: int) -> int:
        design = self._asked[lane].design
        shapes = [entry.real(design) for entry in _entries(self._stack_of(lane), design)]
        return sum(one * two for one, two in shapes)

    def _first_statistics(self) -> dict[str, Tensor]:
        design, like = self._asked[0].design, self.parameters
        if design.normalization != "batch":
            return {}
        found = {}
        for at, width in enumerate(design.widths):
            found[f"layers.{at}.mean"] = like.new_zeros(len(like), width)
            found[f"layers.{at}.variance"] = like.new_ones(len(like), width)
        return found

    def _tracked(self, stack: Stack) -> Tracked:
        if not self.statistics:
            return {}
        found = {}
        for at in range(len(stack.widths)):
            mean, variance = (
                self.statistics[f"layers.{at}.{name}"][stack.lanes].unsqueeze(1)
                for name in ("mean", "variance")
            )
            found[at] = Running(mean, variance)
        return found

    def _real(self, weights: Tensor | float) -> Tensor | None:
        """1 for rows that are not padding, (lanes, rows, 1), where anything asks for it."""
        if not self.statistics or not isinstance(weights, Tensor):
            return None
        return (weights > 0).to(self.parameters.dtype).unsqueeze(2)

    def _set_masks(self) -> None:
        self._masks = [self._masks_of(stack) for stack in self._stacks]

    def _masks_of(self, stack: Stack) -> Masks | None:
        asked = self._asked[stack.lanes]
        inputs, hidden = (any(each) for each in _rates(asked))
        if not inputs and not hidden:
            return None
        sites: list[list[Site]] = []
        for each in asked:
            first = [(self._ends.inputs, each.input_dropout)] if inputs else []
            rest = [(width, each.dropout) for width in each.design.widths] if hidden else []
            sites.append([*first, *rest])
        widths = [*([self._ends.inputs] if inputs else []), *(stack.widths if hidden else [])]
        rows = self._settings[0].batch_size
        return Masks(sites, widths, self._rngs[stack.lanes], rows, self.parameters)

    def _work_for(self, rows: int) -> _Work:
        if rows not in self._work:
            stacks = [
                StackAtWork(
                    stack,
                    numbers,
                    gradients,
                    rows,
                    [any(each) for each in _rates(self._asked[stack.lanes])],
                )
                for stack, numbers, gradients in zip(
                    self._stacks, self._numbers, self._gradients, strict=True
                )
            ]
            outputs = self.parameters.new_empty(len(self.parameters), self._ends.outputs, rows)
            self._work[rows] = _Work(stacks, outputs, self.loss(outputs))
        return self._work[rows]

    def loss(self, outputs: Tensor) -> OutputLoss:
        """The loss for outputs (lanes, outputs, rows) such as these."""
        if not self._classes:
            return SquaredError(outputs)
        return CrossEntropy(outputs, [each.label_smoothing for each in self._settings])

    def _predict(self, inputs: Tensor) -> Tensor:
        found = []
        for stack, numbers in zip(self._stacks, self._numbers, strict=True):
            found += predict(stack, numbers, inputs[stack.lanes], self._tracked(stack))
        return found[0] if len(found) == 1 else torch.cat(found)


@dataclass(frozen=True)
class _Work:
    """What steps with a number of rows use: made once."""

    stacks: list[StackAtWork]
    outputs: Tensor
    loss: OutputLoss


def _ends(asked: Asked, shape: Shape) -> Ends:
    blocks = shape.blocks if asked.embedding else ()
    return Ends(shape.inputs, shape.outputs, asked.embedding, blocks)


def _entries(stack: Stack, design: Design) -> list[Entry]:
    """The arrays that a lane of a stack has: a slope only where it is learned."""
    learned = design.activation == "prelu"
    entries = stack.entries(design.depth)
    return [entry for entry in entries if learned or not entry.name.endswith("slope")]


def _as_named(entry: Entry, design: Design, numbers: Tensor) -> Tensor:
    if entry.name.startswith("embeddings") or entry.name == f"layers.{design.depth}.weight":
        return numbers
    return numbers.T if entry.name.endswith("weight") else numbers.reshape(-1)


def _rates(asked: Sequence[Asked]) -> tuple[list[float], list[float]]:
    return [each.input_dropout for each in asked], [each.dropout for each in asked]


def shape(settings: MlpHyperparameters) -> Hashable:
    """What two settings must share to be lanes of one pass."""
    # A lane's row of numbers is as long as the longest, and optimizers go through all of it.
    found = asked(settings)
    widths = settings.widths if settings.normalization != "none" else _magnitude(settings.widths)
    return found.design.normalization, found.embedding, widths


def _magnitude(widths: Sequence[int]) -> int:
    """Networks of one magnitude differ in their numbers by a factor of 4; small ones are of one."""
    numbers = widths[0] ** 2 + sum(one * two for one, two in itertools.pairwise(widths))
    return max(0, math.ceil(math.log(numbers / SMALL, 4)))


def order(settings: MlpHyperparameters) -> Any:
    """Deepest and widest first: neighbours can be padded to each other."""
    design = asked(settings).design
    return not design.bias, -design.depth, [-width for width in design.widths], design.applied


def size(settings: MlpHyperparameters, shape: Shape) -> Size:
    """What a lane needs."""
    return sized(asked(settings), shape)


def sized(asked: Asked, shape: Shape) -> Size:
    """What a lane needs that asks for this."""
    stack = mlp_stacks.alone(asked.design, _ends(asked, shape))
    return Size(stack.numbers, 4 * sum([shape.inputs, *asked.design.widths, shape.outputs]))


MODEL = NetworkModel(shape=shape, build=Mlp, size=size, order=order)
