"""Networks whose backward pass PyTorch derives: a family declares its weights and a forward pass.

The weights of all lanes lie in one (lanes, numbers) tensor. `self.weights[name]` is a view of it,
(lanes, *shape), that autograd takes for a leaf, so an optimizer moves all of them with one formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.models.base import Arrays, Shape
from workers.models.dropout import Dropout
from workers.models.initializations import INITIALIZATIONS
from workers.models.losses import row_losses

# Values of one layer that a prediction may hold at a time.
PREDICTED_AT_ONCE = 2**23


@dataclass(frozen=True)
class Weights:
    """A named array of each lane: its shape, and its first value from settings and generator."""

    name: str
    shape: tuple[int, ...]
    draw: Callable[[Any, np.random.Generator], NDArray[np.float64]]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def drawn(name: str, shape: tuple[int, ...], fan_in: int, fan_out: int) -> Weights:
    """Weights of the settings' initialization; the draw is (fan_in, size / fan_in) numbers.

    `shape` must hold all numbers that share an output together, outputs first, as in PyTorch.
    """

    def draw(settings: Any, rng: np.random.Generator) -> NDArray[np.float64]:
        # The fans decide the spread, the columns how many outputs there are.
        columns = math.prod(shape) // fan_in
        found = INITIALIZATIONS[settings.initialization](rng, fan_in, columns)
        if columns != fan_out and "xavier" in settings.initialization:
            found = found * ((fan_in + columns) / (fan_in + fan_out)) ** 0.5
        return np.ascontiguousarray(found.T).reshape(shape)

    return Weights(name, shape, draw)


def constant(name: str, shape: tuple[int, ...], value: float = 0.0) -> Weights:
    """Weights that all start with one value."""
    return Weights(name, shape, lambda settings, rng: np.full(shape, value))


class AutogradNetwork:
    """Lanes of one shape; see `base.Network`. A family gives `declare`, `forward` and `values`.

    `forward` must treat rows apart from each other and lanes apart from each other. Where rows
    meet, as in batch statistics, it asks `self.real`, (lanes, rows), False for padding, or None
    where all rows are real.
    """

    # Numbers computed for one row, roughly: bounds what a prediction holds at a time.
    values: int
    rates: Tensor | None = None
    spans: Sequence[int] | None = None
    _masks_now: list[Tensor]

    def __init__(
        self, settings: Sequence[Any], rngs: Sequence[np.random.Generator], shape: Shape
    ) -> None:
        self.settings, self.rngs, self.shape = list(settings), list(rngs), shape
        self.declared = self.declare()
        first = [
            np.concatenate([w.draw(s, rng).ravel() for w in self.declared])
            for s, rng in zip(settings, rngs, strict=True)
        ]
        self.statistics: dict[str, Tensor] = {}
        self.real: Tensor | None = None
        self.step = 0
        self._set(torch.from_numpy(np.stack(first)).to(shape.device, shape.dtype))
        self.smoothing = self._smoothing()
        self.dropout: Dropout | None = None

    # --- what a family gives ----------------------------------------------------------------

    def declare(self) -> list[Weights]:
        """The weights, in the order in which they are drawn."""
        raise NotImplementedError

    def forward(self, inputs: Tensor, train: bool) -> Tensor:
        """(lanes, rows, columns) to (lanes, rows, outputs or steps * outputs)."""
        raise NotImplementedError

    # --- base.Network -----------------------------------------------------------------------

    def start_epoch(self, steps: Sequence[int]) -> None:
        self._masks_step = -1
        if self.dropout:
            self.dropout.start(steps)

    def learn(self, step: int, inputs: Tensor, target: Tensor, weights: Tensor | float) -> Tensor:
        self.step = step
        self.real = weights > 0 if isinstance(weights, Tensor) else None
        losses = self.losses(self.forward(inputs, train=True), inputs, target)
        self.backward((losses * weights).sum())
        return losses.detach()

    def predict(self, inputs: Tensor) -> Tensor:
        self.real = None
        rows = max(1, PREDICTED_AT_ONCE // (len(inputs) * self.values))
        with torch.no_grad():
            found = [self.forward(some, train=False) for some in torch.split(inputs, rows, dim=1)]
        return torch.cat(found, dim=1)

    def keep(self, lanes: Sequence[int]) -> None:
        at = list(lanes)
        self.settings = [self.settings[lane] for lane in at]
        self.rngs = [self.rngs[lane] for lane in at]
        self.statistics = {name: tensor[at] for name, tensor in self.statistics.items()}
        self._set(self.parameters.detach()[at])
        self.smoothing = self._smoothing()
        if self.dropout:
            self.dropout.keep(at)

    def unpack(self, flat: Tensor, lane: int) -> Arrays:
        found, start = {}, 0
        for each in self.declared:
            numbers = flat[lane, start : start + each.size]
            found[each.name] = numbers.detach().cpu().numpy().copy().reshape(each.shape)
            start += each.size
        return found

    def pack(self, arrays: Arrays, flat: Tensor, lane: int) -> None:
        numbers = np.concatenate([arrays[each.name].ravel() for each in self.declared])
        with torch.no_grad():
            flat[lane] = torch.from_numpy(numbers).to(flat)

    def arrays(self, lane: int) -> Arrays:
        statistics = {n: t[lane].cpu().numpy().copy() for n, t in self.statistics.items()}
        return self.unpack(self.parameters, lane) | statistics

    def restore(self, arrays: Arrays, lane: int) -> None:
        self.pack(arrays, self.parameters, lane)
        for name, tensor in self.statistics.items():
            tensor[lane] = torch.from_numpy(arrays[name]).to(tensor)

    # --- for families -----------------------------------------------------------------------

    def losses(self, outputs: Tensor, inputs: Tensor, target: Tensor) -> Tensor:
        """Loss of each row, (lanes, rows)."""
        if self.shape.per_step:
            outputs = outputs.view(*target.shape, self.shape.outputs)
        return row_losses(outputs, target, self.smoothing)

    def backward(self, loss: Tensor) -> None:
        """Set `gradient` to the derivative of a sum over all lanes."""
        leaves = list(self.weights.values())
        found = torch.autograd.grad(loss, leaves, materialize_grads=True)
        for view, gradient in zip(self._gradients.values(), found, strict=True):
            view.copy_(gradient)

    def drop(self, at: int, values: Tensor) -> Tensor:
        """Apply the dropout mask `at` of this step to (lanes, rows, units, ...) values."""
        if self.dropout is None:
            return values
        mask = self._masks()[at][:, : values.shape[1]]
        return values * mask.reshape(*mask.shape, *[1] * (values.dim() - 3))

    def use_dropout(self, rates: Sequence[float], widths: Sequence[int]) -> None:
        """Draw masks for layers of so many units, where any lane has a rate above 0."""
        if any(rates):
            rows = max(settings.batch_size for settings in self.settings)
            self.dropout = Dropout(rates, self.rngs, widths, rows, self.parameters)

    def _masks(self) -> list[Tensor]:
        assert self.dropout is not None
        # Several layers ask within a step; the draws are made once.
        if self._masks_step != self.step:
            self._masks_now, self._masks_step = self.dropout.masks(self.step), self.step
        return self._masks_now

    def _set(self, flat: Tensor) -> None:
        self.parameters = flat.contiguous()
        self.gradient = torch.zeros_like(self.parameters)
        self.sizes = flat.new_full((len(flat), 1), flat.shape[1])
        self.weights = self._views(self.parameters, leaves=True)
        self._gradients: Mapping[str, Tensor] = self._views(self.gradient, leaves=False)
        self._masks_step = -1

    def _views(self, flat: Tensor, *, leaves: bool) -> dict[str, Tensor]:
        views, start = {}, 0
        for each in self.declared:
            view = flat[:, start : start + each.size].view(len(flat), *each.shape)
            views[each.name] = view.detach().requires_grad_() if leaves else view
            start += each.size
        return views

    def _smoothing(self) -> Tensor | None:
        found = [settings.label_smoothing for settings in self.settings]
        return self.parameters.new_tensor(found) if any(found) else None
