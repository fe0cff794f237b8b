"""The convolutional network, for images and for signals over time."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hpo_service import errors
from hpo_service.catalog.cnn import CnnHyperparameters
from workers.models import augmentation
from workers.models.activations import PRELU_START
from workers.models.augmentation import Augmentation
from workers.models.autograd import AutogradNetwork, Weights, constant, drawn
from workers.models.base import NetworkModel, Shape, Size
from workers.models.channel_norms import batch_norm, layer_norm
from workers.models.convolution import (
    activate,
    by_lane,
    convolve,
    linear,
    side_by_side,
    split_channels,
)

# A side is pooled where it has so many pixels.
SMALLEST_POOLED = 4

Pair = tuple[int, int]


@dataclass(frozen=True)
class Block:
    """One block: channels in and out, and along height and width its kernel, stride, pooling,
    what the convolution gives and what is left after pooling.
    """

    inputs: int
    outputs: int
    kernel: Pair
    stride: Pair
    pooled: Pair
    convolved: Pair
    left: Pair


class Cnn(AutogradNetwork):
    """Lanes of one CNN shape; see `base.Network`.

    Rows are images, (channels, height, width), or signals, (steps, channels) and their length in a
    last column: an image of height 1 whose places after the end are padding in every layer.
    A kernel is at most so long that its middle on one edge reaches the other: weights farther out
    would never meet a pixel. A stride beyond a side leaves one place. Raises `InvalidRequest` for
    other rows, and for an augmentation that leaves nothing of them.
    """

    def __init__(
        self,
        settings: Sequence[CnnHyperparameters],
        rngs: Sequence[np.random.Generator],
        shape: Shape,
    ) -> None:
        channels, *sides = grid(shape)
        self._channels, self._sides = channels, (sides[0], sides[1])
        self._signal = len(shape.dims) == 2
        for each in settings:
            augmentation.check(each, self._sides, self._signal)
        self._blocks = blocks(settings[0], shape)
        self._dense = settings[0].head == "dense"
        self._activation, self._leaky = settings[0].activation, settings[0].leaky_slope
        self._normalization = settings[0].normalization
        self._pooling = settings[0].pooling
        self.values = size(settings[0], shape).values
        super().__init__(settings, rngs, shape)
        self._start_statistics()
        heads = [settings[0].head_units] if self._dense else []
        widths = [block.outputs for block in self._blocks] + heads
        self.use_dropout([each.dropout for each in settings], widths)
        self._augmentation = None
        if Augmentation.needed(settings):
            self._augmentation = Augmentation(settings, rngs, self._sides, self.parameters)

    def declare(self) -> list[Weights]:
        settings: Any = self.settings[0]
        found: list[Weights] = []
        for at, block in enumerate(self._blocks):
            area = block.kernel[0] * block.kernel[1]
            fans = block.inputs * area, block.outputs * area
            weight = (block.outputs, block.inputs, *block.kernel)
            found.append(drawn(f"blocks.{at}.weight", weight, *fans))
            if self._normalization != "none":
                found.append(constant(f"blocks.{at}.gain", (block.outputs,), 1.0))
            found.append(constant(f"blocks.{at}.bias", (block.outputs,)))
            found += self._slope(f"blocks.{at}.slope")
        width = features(self._blocks, self._dense)
        if self._dense:
            found += [*_linear("head", width, settings.head_units), *self._slope("head.slope")]
            width = settings.head_units
        return found + _linear("output", width, self.shape.outputs)

    def start_epoch(self, steps: Sequence[int]) -> None:
        super().start_epoch(steps)
        if self._augmentation:
            self._augmentation.start(steps)

    def keep(self, lanes: Sequence[int]) -> None:
        super().keep(lanes)
        if self._augmentation:
            self._augmentation.keep(lanes)

    def forward(self, inputs: Tensor, train: bool) -> Tensor:
        images, lengths = self._images(inputs)
        if train and self._augmentation:
            images, lengths = self._augmentation.apply(self.step, images, lengths)
        if lengths is not None and bool((lengths >= self._sides[1]).all()):
            lengths = None
        values = side_by_side(images)
        for at, block in enumerate(self._blocks):
            values, lengths = self._block(at, block, values, lengths, train)
        return self._head(values, lengths, train)

    def _images(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """(lanes, rows, channels, height, width); the lengths of signals."""
        lanes, rows, (height, width) = *inputs.shape[:2], self._sides
        if not self._signal:
            return inputs.view(lanes, rows, self._channels, height, width), None
        steps = inputs[:, :, :-1].reshape(lanes, rows, 1, width, self._channels)
        return steps.permute(0, 1, 4, 2, 3), inputs[:, :, -1]

    def _block(
        self, at: int, block: Block, values: Tensor, lengths: Tensor | None, train: bool
    ) -> tuple[Tensor, Tensor | None]:
        padding = (block.kernel[0] // 2, block.kernel[1] // 2)
        bias = self.weights[f"blocks.{at}.bias"] if self._normalization == "none" else None
        weight = self.weights[f"blocks.{at}.weight"]
        values = convolve(values, weight, bias, block.stride, padding)
        lengths = _shorter(lengths, block.stride[1])
        real = _real(lengths, block.convolved[1])
        values = self._normalize(at, values, real, train)
        values = self._activate(f"blocks.{at}.slope", values)
        if real is not None:
            values = split_channels(values, len(self.parameters)).mul(real).flatten(1, 2)
        if block.pooled != (1, 1):
            pool = functional.max_pool2d if self._pooling == "max" else functional.avg_pool2d
            values = pool(values, block.pooled)
            lengths = _shorter(lengths, block.pooled[1])
        return self._drop_channels(at, values) if train else values, lengths

    def _normalize(self, at: int, values: Tensor, real: Tensor | None, train: bool) -> Tensor:
        """`real` (rows, lanes, 1, 1, width) tells the places before a signal's end."""
        if self._normalization == "none":
            return values
        gain, bias = self.weights[f"blocks.{at}.gain"], self.weights[f"blocks.{at}.bias"]
        if self._normalization == "layer":
            return layer_norm(values, gain, bias, real)
        if self.real is not None:
            rows = self.real.T[:, :, None, None, None]
            real = rows if real is None else rows & real
        mean, variance = (self.statistics[f"blocks.{at}.{n}"] for n in ("mean", "variance"))
        return batch_norm(values, gain, bias, mean, variance, train, real)

    def _activate(self, slope: str, values: Tensor) -> Tensor:
        """Channels, (rows, lanes * channels, ...), or units, (lanes, rows, units)."""
        if slope not in self.weights:
            return activate(self._activation, values, self._leaky)
        slopes = self.weights[slope]
        if values.dim() == 3:
            return activate(self._activation, values, slopes.unsqueeze(2))
        channels = values.shape[1] // len(slopes)
        return activate(self._activation, values, slopes.repeat_interleave(channels).view(-1, 1, 1))

    def _drop_channels(self, at: int, values: Tensor) -> Tensor:
        if self.dropout is None:
            return values
        dropped = self.drop(at, by_lane(values, len(self.parameters)))
        return dropped.transpose(0, 1).flatten(1, 2)

    def _head(self, values: Tensor, lengths: Tensor | None, train: bool) -> Tensor:
        by_lanes = by_lane(values, len(self.parameters))
        if self._dense:
            hidden = self._linear("head", by_lanes.flatten(2))
            found = self._activate("head.slope", hidden)
            found = self.drop(len(self._blocks), found) if train else found
        elif lengths is None:
            found = by_lanes.mean((3, 4))
        else:
            # Places after the end are 0 by now, except those that pooling left out.
            places = lengths.clamp(max=values.shape[3]).unsqueeze(2)
            found = by_lanes.sum((3, 4)) / places
        return self._linear("output", found)

    def _linear(self, name: str, inputs: Tensor) -> Tensor:
        return linear(inputs, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _slope(self, name: str) -> list[Weights]:
        return [constant(name, (1,), PRELU_START)] if self._activation == "prelu" else []

    def _start_statistics(self) -> None:
        if self._normalization == "batch":
            for at, block in enumerate(self._blocks):
                shape = (len(self.parameters), block.outputs)
                self.statistics[f"blocks.{at}.mean"] = self.parameters.new_zeros(shape)
                self.statistics[f"blocks.{at}.variance"] = self.parameters.new_ones(shape)


def _linear(name: str, inputs: int, outputs: int) -> list[Weights]:
    weight = drawn(f"{name}.weight", (outputs, inputs), inputs, outputs)
    return [weight, constant(f"{name}.bias", (outputs,))]


def _shorter(lengths: Tensor | None, by: int) -> Tensor | None:
    """A place is real where it begins before the end."""
    return lengths if lengths is None else torch.ceil(lengths / by)


def _real(lengths: Tensor | None, width: int) -> Tensor | None:
    """(lanes, rows) lengths as places, (rows, lanes, 1, 1, width)."""
    if lengths is None:
        return None
    places = torch.arange(width, device=lengths.device)
    return (places < lengths.T.unsqueeze(2))[:, :, None, None]


def grid(shape: Shape) -> tuple[int, int, int]:
    """Channels, height and width of a row; `InvalidRequest` where it is no image and no signal."""
    if shape.per_step:
        raise errors.invalid("objective.model", "cnn tells one class for a row, not for each step")
    if len(shape.dims) == 3:
        return shape.dims[0], shape.dims[1], shape.dims[2]
    if len(shape.dims) == 2:
        return shape.dims[1], 1, shape.dims[0]
    raise errors.invalid("objective.model", "cnn needs images or sequences")


def blocks(settings: CnnHyperparameters, shape: Shape) -> list[Block]:
    """The blocks of a network for such rows, first to last."""
    channels, *sides = grid(shape)
    found: list[Block] = []
    for width in settings.widths:
        # A signal has no height, and a side of 1 leaves a kernel and a stride of 1.
        kernel = [min(settings.kernel, 2 * side - 1) for side in sides]
        stride = [min(settings.stride, side) for side in sides]
        convolved = [-(-side // step) for side, step in zip(sides, stride, strict=True)]
        pools = settings.pooling != "none"
        pooled = [2 if pools and side >= SMALLEST_POOLED else 1 for side in convolved]
        sides = [side // by for side, by in zip(convolved, pooled, strict=True)]
        pairs = ((each[0], each[1]) for each in (kernel, stride, pooled, convolved, sides))
        found.append(Block(channels, width, *pairs))
        channels = width
    return found


def features(made: Sequence[Block], dense: bool) -> int:
    """What goes into the head."""
    last = made[-1]
    return last.outputs * (last.left[0] * last.left[1] if dense else 1)


def shape(settings: CnnHyperparameters) -> Hashable:
    """What two settings must share to be lanes of one pass."""
    dense, leaky = settings.head == "dense", settings.activation == "leaky_relu"
    return (
        settings.widths, settings.kernel, settings.stride, settings.pooling, settings.activation,
        settings.normalization, settings.head, settings.head_units if dense else 0,
        settings.leaky_slope if leaky else 0,
    )  # fmt: skip


def size(settings: CnnHyperparameters, shape: Shape) -> Size:
    """What a lane needs: of each block what its parts give, kept for the way back."""
    made = blocks(settings, shape)
    # Convolution, activation and normalization keep their results; masks and gradients pass by.
    kept = 4 if settings.normalization != "none" else 3
    numbers, values = 0, 2 * shape.inputs
    for block in made:
        numbers += block.outputs * (block.inputs * block.kernel[0] * block.kernel[1] + 2)
        values += block.outputs * kept * block.convolved[0] * block.convolved[1]
        values += 2 * block.outputs * block.left[0] * block.left[1]
    width = features(made, settings.head == "dense")
    if settings.head == "dense":
        numbers += (width + 1) * settings.head_units
        width = settings.head_units
        values += 3 * width
    return Size(numbers + (width + 1) * shape.outputs, values + shape.outputs)


def _probe(side: int, **params: Any) -> tuple[CnnHyperparameters, Shape]:
    device, inputs = torch.device("cpu"), side * side
    dims = (1, side, side)
    shape = Shape("classification", inputs, 10, torch.float32, device, dims=dims)
    return CnnHyperparameters(**params), shape


MODEL = NetworkModel(
    shape=shape,
    build=Cnn,
    size=size,
    layout="structured",
    probes=(_probe(8, channels=8), _probe(16, channels=16), _probe(28, channels=32)),
)
