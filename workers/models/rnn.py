"""The recurrent network: sequences step by step, texts through a learned embedding."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hpo_service import errors
from hpo_service.catalog.rnn import RecurrentCell, RnnHyperparameters
from workers.data.layouts import SPECIAL
from workers.models.autograd import AutogradNetwork, Weights, constant, drawn
from workers.models.base import NetworkModel, Shape, Size
from workers.models.cells import CELLS, GATES, Space, fused_lstm, recur
from workers.models.initializations import INITIALIZATIONS
from workers.models.ragged import Ragged

FORGET_BIAS = 1.0  # remember at first (Jozefowicz et al. 2015)


class Rnn(AutogradNetwork):
    """Lanes of one shape of recurrent network; see `base.Network`.

    Inputs: sequences (lanes, rows, steps * channels + 1), step by step, the last column a row's
    length in steps; texts (lanes, rows, steps) of codes, 0 after the end.
    """

    settings: list[RnnHyperparameters]

    def __init__(
        self,
        settings: Sequence[RnnHyperparameters],
        rngs: Sequence[np.random.Generator],
        shape: Shape,
    ) -> None:
        self.built = settings[0]
        if self.built.bidirectional and tells_the_next_symbol(shape):
            raise errors.invalid(
                "params.bidirectional",
                "a second pass from the end sees the symbols that are to be told: set it to false",
            )
        self.directions = 1 + self.built.bidirectional
        self.values = size(self.built, shape).values
        self._spaces = [Space() for _ in range(self.built.hidden_layers)]
        super().__init__(settings, rngs, shape)
        rates = [each.dropout for each in settings]
        self.use_dropout(rates, [self._width] * self.built.hidden_layers)

    @property
    def _width(self) -> int:
        return self.built.hidden_units * self.directions

    def declare(self) -> list[Weights]:
        built, found = self.built, []
        below = self.shape.dims[-1]
        if self.shape.symbols:
            below = built.embedding
            found.append(_embedding(self.shape.symbols, below))
        for at in range(built.hidden_layers):
            found += _layer(f"layers.{at}", built, self.directions, below)
            below = self._width
        outputs = self.shape.outputs
        return [
            *found,
            drawn("head.weight", (outputs, below), below, outputs),
            constant("head.bias", (outputs,)),
        ]

    def forward(self, inputs: Tensor, train: bool) -> Tensor:
        values, rows = self._read(inputs)
        for at in range(self.built.hidden_layers):
            if at and train:
                values = self._drop_by_row(at - 1, values)
            states = self._layer(at, values, rows)
            if at + 1 < self.built.hidden_layers or self.shape.per_step:
                values = rows.in_order(states, self.directions)
        if self.shape.per_step:
            values = self._drop_by_row(-1, values) if train else values
            return self._each_step(values)
        found = rows.readout(states, self.directions, self.built.readout)
        return self._head(self.drop(-1, found) if train else found)

    def _read(self, inputs: Tensor) -> tuple[Tensor, Ragged]:
        """(lanes, steps, rows, width) up to the longest row's end."""
        if self.shape.symbols:
            codes = inputs.long()
            rows = Ragged((codes > 0).sum(2))
            codes = codes[..., : rows.steps].transpose(1, 2)
            table = self.weights["embedding"]
            first = torch.arange(len(codes), device=codes.device) * self.shape.symbols
            return functional.embedding(codes + first.view(-1, 1, 1), table.flatten(0, 1)), rows
        rows = Ragged(inputs[..., -1].long().clamp(max=self.shape.dims[0]))
        values = torch.unflatten(inputs[..., :-1], 2, self.shape.dims)[
            :, :, : rows.steps
        ].transpose(1, 2)
        return rows.without_padding(values), rows

    def _layer(self, at: int, values: Tensor, rows: Ragged) -> Tensor:
        """(lanes * directions, steps, rows, units), each direction in its own order."""
        weights = [
            each.flatten(0, 1)
            for name, each in self.weights.items()
            if name.startswith(f"layers.{at}.")
        ]
        if self.directions == 2:
            values = torch.stack([values, rows.turned(values)], 1).flatten(0, 1)
        # One network alone: PyTorch's kernel for CPUs is faster than a step at a time.
        if self.built.cell == "lstm" and len(self.parameters) == 1 and values.is_cpu:
            return fused_lstm(values, weights)
        real = rows.real(self.directions) if self.built.activation == "relu" else None
        made = CELLS[self.built.cell](self._spaces[at], self.built.activation, real)
        return recur(made, values, weights)

    def _drop_by_row(self, at: int, values: Tensor) -> Tensor:
        """Dropout whose mask is the same at all steps."""
        return self.drop(at, values.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def _head(self, values: Tensor) -> Tensor:
        weight, bias = self.weights["head.weight"], self.weights["head.bias"]
        return torch.baddbmm(bias.unsqueeze(1), values, weight.transpose(1, 2))

    def _each_step(self, values: Tensor) -> Tensor:
        """(lanes, rows, steps * outputs), 0 after the longest row's end."""
        _, steps, rows, _ = values.shape
        found = torch.unflatten(self._head(values.flatten(1, 2)), 1, (steps, rows)).transpose(1, 2)
        return functional.pad(found.flatten(2), (0, self._left_out(steps)))

    def _left_out(self, steps: int) -> int:
        return (self.shape.dims[0] - steps) * self.shape.outputs


def tells_the_next_symbol(shape: Shape) -> bool:
    """Whether the class of a step is the symbol after it.

    Told by there being as many classes as symbols, which may be true of tags too: then a second
    direction, though harmless, is refused.
    """
    return shape.per_step and shape.symbols > 0 and shape.outputs == shape.symbols - SPECIAL


def _embedding(symbols: int, width: int) -> Weights:
    """A standard normal vector for each symbol; padding and unknown, which no training row has,
    are zero.
    """

    def draw(settings: Any, rng: np.random.Generator) -> NDArray[np.float64]:
        found = rng.standard_normal((symbols, width))
        found[:SPECIAL] = 0
        return found

    return Weights("embedding", (symbols, width), draw)


def _layer(name: str, built: RnnHyperparameters, directions: int, below: int) -> list[Weights]:
    """As in PyTorch, with the directions in front."""
    units, gates = built.hidden_units, GATES[built.cell]

    def gate_by_gate(fan_in: int) -> Callable[[Any, np.random.Generator], NDArray[np.float64]]:
        def draw(settings: Any, rng: np.random.Generator) -> NDArray[np.float64]:
            initial = INITIALIZATIONS[settings.initialization]
            each = [initial(rng, fan_in, units).T for _ in range(directions * gates)]
            return np.concatenate(each).reshape(directions, gates * units, fan_in)

        return draw

    def bias(settings: Any, rng: np.random.Generator) -> NDArray[np.float64]:
        found = np.zeros((directions, gates, units))
        if built.cell == "lstm":
            found[:, 1] = FORGET_BIAS
        return found.reshape(directions, gates * units)

    biases = (directions, gates * units)
    found = [
        Weights(f"{name}.weight_ih", (*biases, below), gate_by_gate(below)),
        Weights(f"{name}.weight_hh", (*biases, units), gate_by_gate(units)),
        Weights(f"{name}.bias", biases, bias),
    ]
    if built.cell == "gru":
        found.append(constant(f"{name}.bias_hh", biases))
    return found


def shape(settings: RnnHyperparameters) -> Hashable:
    """What two settings must share to be lanes of one pass."""
    return (
        settings.cell,
        settings.hidden_layers,
        settings.hidden_units,
        settings.bidirectional,
        settings.readout,
        settings.activation if settings.cell == "elman" else None,
        settings.embedding,
    )


def size(settings: RnnHyperparameters, shape: Shape) -> Size:
    """What a lane needs; `values` with all that is kept of a pass for the way back."""
    units, directions = settings.hidden_units, 1 + settings.bidirectional
    gates = GATES[settings.cell]
    below = settings.embedding if shape.symbols else shape.dims[-1]
    numbers, values = shape.symbols * settings.embedding, shape.inputs
    # Gates, their gradients and factors, memory; states and their gradient.
    kept = {"elman": 3, "lstm": 17, "gru": 17}[settings.cell] * units
    biases = 2 if settings.cell == "gru" else 1
    for _ in range(settings.hidden_layers):
        numbers += directions * gates * units * (below + units + biases)
        values += shape.dims[0] * directions * (2 * below + kept)
        below = units * directions
    numbers += (below + 1) * shape.outputs
    values += shape.outputs * (2 * shape.dims[0] if shape.per_step else 1)
    return Size(numbers, values)


def _probes() -> tuple[tuple[RnnHyperparameters, Shape], ...]:
    """Each cell, small to large, on sequences of 12 channels; a small one on longer ones too."""
    return tuple(
        (RnnHyperparameters(cell=cell, hidden_units=units), _sequences(steps, channels=12))
        for cell in get_args(RecurrentCell)
        for units, steps in ((16, 24), (64, 24), (128, 24), (16, 100))
    )


def _sequences(steps: int, channels: int) -> Shape:
    return Shape(
        "classification",
        inputs=steps * channels + 1,
        outputs=9,
        dtype=torch.float32,
        device=torch.device("cpu"),
        dims=(steps, channels),
    )


MODEL = NetworkModel(
    shape=shape,
    build=Rnn,
    size=size,
    layout="structured",
    kind=lambda settings: str(settings.cell),
    probes=_probes(),
)
