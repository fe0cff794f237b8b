"""The multilayer perceptron: equal-shaped networks as batched matrix products.

The backward pass is written out by hand into buffers that are reused, because for networks of
this size allocation and bookkeeping cost more than the products. A test holds it against autograd.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpo_service.catalog.mlp import MlpHyperparameters
from workers.models.activations import ACTIVATIONS, PRELU_START
from workers.models.base import Arrays, NetworkModel, Shape, Size
from workers.models.dropout import Dropout
from workers.models.initializations import INITIALIZATIONS

# Values of one layer that a prediction may hold at a time.
PREDICTED_AT_ONCE = 2**24


class Mlp:
    """Lanes of one MLP shape; see `base.Network`."""

    rates: Tensor | None = None

    def __init__(
        self,
        settings: Sequence[MlpHyperparameters],
        rngs: Sequence[np.random.Generator],
        shape: Shape,
    ) -> None:
        self._widths = [shape.inputs, *settings[0].widths, shape.outputs]
        self._activation = ACTIVATIONS[settings[0].activation]
        self._classes = shape.task == "classification"
        self.statistics: dict[str, Tensor] = {}
        drawn = [self._draw(s, rng) for s, rng in zip(settings, rngs, strict=True)]
        flat = torch.from_numpy(np.stack(drawn))
        self._set(flat.to(shape.device, shape.dtype))
        rates = [s.dropout for s in settings]
        self._dropout = None
        if any(rates):
            rows = settings[0].batch_size
            self._dropout = Dropout(rates, rngs, settings[0].widths, rows, self.parameters)

    def start_epoch(self, steps: Sequence[int]) -> None:
        if self._dropout:
            self._dropout.start(steps)

    def learn(self, step: int, inputs: Tensor, target: Tensor, weights: Tensor | float) -> Tensor:
        with torch.inference_mode():  # nothing is recorded for autograd: a tenth of a step
            buffers = self._buffers_for(inputs.shape[1])
            masks = self._dropout.masks(step) if self._dropout else None
            outputs = self._forward(inputs, masks, buffers)
            losses, gradient = self._loss(outputs, target, weights, buffers)
            self._backward(inputs, gradient, masks, buffers)
        return losses

    def predict(self, inputs: Tensor) -> Tensor:
        values = inputs.shape[0] * max(self._widths)
        rows = max(1, PREDICTED_AT_ONCE // values)
        found = [self._predict(some) for some in torch.split(inputs, rows, dim=1)]
        return torch.cat(found, dim=1)

    def keep(self, lanes: Sequence[int]) -> None:
        self._set(self.parameters[list(lanes)])
        if self._dropout:
            self._dropout.keep(lanes)

    def arrays(self, lane: int) -> Arrays:
        return self.unpack(self.parameters, lane)

    def unpack(self, flat: Tensor, lane: int) -> Arrays:
        """As in `torch.nn.Linear` and `PReLU`: weights (out, in), biases (out,), slopes (1,)."""
        named = self._named(flat, lane)
        return {name: numbers.cpu().numpy().copy() for name, numbers in named.items()}

    def pack(self, arrays: Arrays, flat: Tensor, lane: int) -> None:
        for name, numbers in self._named(flat, lane).items():
            numbers.copy_(torch.from_numpy(arrays[name]))

    def _named(self, flat: Tensor, lane: int) -> dict[str, Tensor]:
        """Views of a lane's numbers."""
        found: dict[str, Tensor] = {}
        layers = self._views(flat)
        for at, layer in enumerate(layers):
            weight = layer.weight[lane] if layer is layers[-1] else layer.weight[lane].T
            found[f"layers.{at}.weight"] = weight
            found[f"layers.{at}.bias"] = layer.bias[lane].flatten()
            if layer.slope is not None:
                found[f"layers.{at}.slope"] = layer.slope[lane].flatten()
        return found

    def _draw(self, settings: MlpHyperparameters, rng: np.random.Generator) -> Any:
        draw, numbers = INITIALIZATIONS[settings.initialization], []
        last = len(self._widths) - 2
        for at, (fan_in, fan_out) in enumerate(itertools.pairwise(self._widths)):
            weight = draw(rng, fan_in, fan_out)
            numbers += [(weight.T if at == last else weight).ravel(), np.zeros(fan_out)]
            if self._activation.learned and at < last:
                numbers.append(np.array([PRELU_START]))
        return np.concatenate(numbers)

    def _set(self, parameters: Tensor) -> None:
        self.parameters = parameters.contiguous()
        self.gradient = torch.zeros_like(self.parameters)
        self._layers = self._views(self.parameters)
        self._gradients = self._views(self.gradient)
        self._buffers: dict[int, _Buffers] = {}

    def _views(self, flat: Tensor) -> list[_Layer]:
        layers, start, last = [], 0, len(self._widths) - 2
        for at, (fan_in, fan_out) in enumerate(itertools.pairwise(self._widths)):
            stop = start + fan_in * fan_out
            # The last layer lies transposed: products with few columns are slow (measured: 3x).
            weight = (fan_out, fan_in) if at == last else (fan_in, fan_out)
            bias = (fan_out, 1) if at == last else (1, fan_out)
            slope = self._activation.learned and at < last
            end = stop + fan_out
            layers.append(
                _Layer(
                    flat[:, start:stop].view(-1, *weight),
                    flat[:, stop:end].view(-1, *bias),
                    flat[:, end : end + 1].unsqueeze(2) if slope else None,
                )
            )
            start = end + slope
        return layers

    def _buffers_for(self, rows: int) -> _Buffers:
        if rows not in self._buffers:
            self._buffers[rows] = _Buffers(self.parameters, self._widths, rows)
        return self._buffers[rows]

    def _forward(self, inputs: Tensor, masks: list[Tensor] | None, to: _Buffers) -> Tensor:
        """(lanes, outputs, rows): the last layer's results lie transposed, as its weights do."""
        rows, below = inputs.shape[1], inputs
        for at, layer in enumerate(self._layers[:-1]):
            torch.baddbmm(layer.bias, below, layer.weight, out=to.z[at])
            self._activation.forward(to.z[at], layer.slope, to.h[at])
            below = to.h[at]
            if masks:
                below = torch.mul(below, masks[at][:, :rows], out=to.dropped[at])
        last = self._layers[-1]
        to.below = below
        return torch.baddbmm(last.bias, last.weight, below.transpose(1, 2), out=to.outputs)

    def _loss(
        self, outputs: Tensor, target: Tensor, weights: Tensor | float, to: _Buffers
    ) -> tuple[Tensor, Tensor]:
        """Loss of each row, (lanes, rows), and its gradient by the outputs, weighted."""
        by_row = weights.unsqueeze(1) if isinstance(weights, Tensor) else weights
        if self._classes:
            codes = target.unsqueeze(1)
            logs = torch.log_softmax(outputs, dim=1)
            losses = logs.gather(1, codes).squeeze(1).neg_()
            gradient = torch.exp(logs, out=to.gradient)
            gradient.scatter_add_(1, codes, to.minus_one)
            return losses, gradient.mul_(by_row)
        error = torch.sub(outputs, target.transpose(1, 2), out=to.gradient)
        return error.square().mean(1), error.mul_(2 / error.shape[1]).mul_(by_row)

    def _backward(
        self, inputs: Tensor, gradient: Tensor, masks: list[Tensor] | None, to: _Buffers
    ) -> None:
        rows, last = inputs.shape[1], self._gradients[-1]
        last.weight.copy_(torch.bmm(gradient, to.below, out=to.products[-1]))
        torch.sum(gradient, dim=2, keepdim=True, out=last.bias)
        if len(self._layers) > 1:
            torch.bmm(gradient.transpose(1, 2), self._layers[-1].weight, out=to.dh[-1])
        for at in reversed(range(len(self._layers) - 1)):
            layer, found, dh = self._layers[at], self._gradients[at], to.dh[at]
            if masks:
                dh.mul_(masks[at][:, :rows])
            if found.slope is not None and self._activation.slope_gradient:
                found.slope.copy_(self._activation.slope_gradient(dh, to.z[at]))
            self._activation.backward(dh, to.z[at], to.h[at], layer.slope, dh)
            dropped = to.dropped if masks else to.h
            below = dropped[at - 1] if at else inputs
            # Products go faster into a contiguous buffer than into the rows of `gradient`.
            found.weight.copy_(torch.bmm(below.transpose(1, 2), dh, out=to.products[at]))
            torch.sum(dh, dim=1, keepdim=True, out=found.bias)
            if at:
                torch.bmm(dh, layer.weight.transpose(1, 2), out=to.dh[at - 1])

    def _predict(self, inputs: Tensor) -> Tensor:
        below = inputs
        for layer in self._layers[:-1]:
            z = torch.baddbmm(layer.bias, below, layer.weight)
            below = torch.empty_like(z)
            self._activation.forward(z, layer.slope, below)
        last = self._layers[-1]
        return torch.baddbmm(last.bias, last.weight, below.transpose(1, 2)).transpose(1, 2)


@dataclass(frozen=True)
class _Layer:
    """Views of one layer's numbers in a (lanes, numbers) tensor."""

    weight: Tensor
    bias: Tensor
    slope: Tensor | None


class _Buffers:
    """What a step with `rows` rows writes: made once, used in every step."""

    below: Tensor

    def __init__(self, like: Tensor, widths: Sequence[int], rows: int) -> None:
        def empty(*shape: int) -> Tensor:
            return like.new_empty(len(like), *shape)

        hidden, outputs = widths[1:-1], widths[-1]
        self.z = [empty(rows, width) for width in hidden]
        self.h = [empty(rows, width) for width in hidden]
        self.dropped = [empty(rows, width) for width in hidden]
        self.dh = [empty(rows, width) for width in hidden]
        self.outputs = empty(outputs, rows)
        self.gradient = empty(outputs, rows)
        self.minus_one = like.new_full((len(like), 1, rows), -1.0)
        pairs = list(itertools.pairwise(widths))
        self.products = [empty(*pair) for pair in pairs[:-1]]
        self.products.append(empty(outputs, pairs[-1][0]))


def shape(settings: MlpHyperparameters) -> Hashable:
    """What two settings must share to be lanes of one pass."""
    return settings.widths, settings.activation


def size(settings: MlpHyperparameters, shape: Shape) -> Size:
    """What a lane needs."""
    widths = [shape.inputs, *settings.widths, shape.outputs]
    numbers = sum((fan_in + 1) * fan_out for fan_in, fan_out in itertools.pairwise(widths))
    return Size(numbers, 4 * sum(widths))


MODEL = NetworkModel(shape=shape, build=Mlp, size=size)
