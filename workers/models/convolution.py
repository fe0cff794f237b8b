"""Convolutions of many lanes at once, and what stands around them.

The channels of all lanes lie side by side, (rows, lanes * channels, height, width), and each lane
is a group of one grouped convolution. In memory the channels come last: whole blocks were 1.3 to
2.7 times faster so than with channels first. Products of unfolded images, batched over the lanes,
were 1.4 to 11 times slower. (Measured on one thread of an AMD EPYC, 5 lanes, batches of 32, images
of 8x8 to 28x28, 8 to 32 channels.) A signal over time is an image of height 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from workers.models.activations import ACTIVATIONS, Slope


def side_by_side(images: Tensor) -> Tensor:
    """(lanes, rows, channels, height, width) to (rows, lanes * channels, height, width)."""
    # Strides tell PyTorch where the channels are, and only a copy has all of them in order.
    return images.permute(1, 3, 4, 0, 2).contiguous().flatten(3).permute(0, 3, 1, 2)


def by_lane(values: Tensor, lanes: int) -> Tensor:
    """(rows, lanes * channels, ...) to a view (lanes, rows, channels, ...)."""
    return split_channels(values, lanes).transpose(0, 1)


def split_channels(values: Tensor, lanes: int) -> Tensor:
    """(rows, lanes * channels, ...) to a view (rows, lanes, channels, ...)."""
    rows, channels, *places = values.shape
    return values.view(rows, lanes, channels // lanes, *places)


def convolve(
    values: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
) -> Tensor:
    """Each lane's convolution, as `torch.nn.Conv2d`.

    `values` (rows, lanes * channels, height, width), `weight` (lanes, outputs, channels, height,
    width), `bias` (lanes, outputs).
    """
    each, filters = None if bias is None else bias.flatten(), weight.flatten(0, 1)
    found = functional.conv2d(values, filters, each, stride, padding, groups=len(weight))
    # A single channel says nothing about the order, and then PyTorch takes its own.
    return found.contiguous(memory_format=torch.channels_last)


def linear(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Each lane's fully connected layer, as `torch.nn.Linear`.

    `inputs` (lanes, rows, inputs), `weight` (lanes, outputs, inputs), `bias` (lanes, outputs).
    """
    return torch.baddbmm(bias.unsqueeze(1), inputs, weight.transpose(1, 2))


def activate(name: str, values: Tensor, slope: Slope) -> Tensor:
    """An activation of the catalog; `slope` is leaky_relu's, or prelu's to be broadcast."""
    if isinstance(slope, Tensor):
        return values.clamp(min=0) + slope * values.clamp(max=0)
    found: Tensor = _Written.apply(values, name, slope)  # type: ignore[no-untyped-call]
    return found


class _Written(torch.autograd.Function):
    """An entry of `ACTIVATIONS` with its own derivative, so that each has one definition."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, name: str, slope: float | None) -> Tensor:
        found = torch.empty_like(values)
        ACTIVATIONS[name].forward(values, slope, found)
        ctx.save_for_backward(values, found)
        ctx.name, ctx.slope = name, slope
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        values, found = ctx.saved_tensors
        by_values = torch.empty_like(values)
        ACTIVATIONS[ctx.name].backward(gradients[0], values, found, ctx.slope, by_values)
        return by_values, None, None
