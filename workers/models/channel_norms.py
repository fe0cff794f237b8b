"""Normalization of the channels of many lanes at once, by autograd: over the batch, or each row.

Values are (rows, lanes * channels, ...), as `workers.models.convolution` lays them out; for layers
without places there is nothing after the channels. `real`, (rows, lanes, 1, ...), broadcast over
the places, is False where a row or a place is padding: no mean or variance counts it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from workers.models.convolution import split_channels

EPSILON = 1e-5
# What the newest batch counts in the running statistics, as in PyTorch.
MOMENTUM = 0.1


def batch_norm(
    values: Tensor,
    gain: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    train: bool,
    real: Tensor | None = None,
) -> Tensor:
    """Batch normalization (Ioffe and Szegedy 2015), each channel of each lane for itself.

    `gain`, `bias`, `mean`, `variance` are (lanes, channels). In training the running `mean` and
    `variance` move towards those of the batch; else they are what is used. A lane with a single
    real value for a channel, or with none, leaves them as they are.
    """
    single = values.shape[0] * values[0, 0].numel() < 2
    if not train or not (single or _padded(real)):
        return torch.batch_norm(
            values, gain.flatten(), bias.flatten(), mean.view(-1), variance.view(-1),
            train, MOMENTUM, EPSILON, False,
        )  # fmt: skip
    lanes, over = len(gain), (0, *range(3, values.dim() + 1))
    scaled, moments, count = _standardise(split_channels(values, lanes), over, real)
    _follow(mean, variance, moments, count)
    return _stretch(scaled, gain, bias)


def layer_norm(values: Tensor, gain: Tensor, bias: Tensor, real: Tensor | None = None) -> Tensor:
    """Layer normalization (Ba, Kiros and Hinton 2016), over all channels and places of a row.

    `gain`, `bias` are (lanes, channels).
    """
    lanes = len(gain)
    if not _padded(real):
        return functional.group_norm(values, lanes, gain.flatten(), bias.flatten(), EPSILON)
    over = tuple(range(2, values.dim() + 1))
    return _stretch(_standardise(split_channels(values, lanes), over, real)[0], gain, bias)


def _padded(real: Tensor | None) -> bool:
    return real is not None and not bool(real.all())


def _standardise(
    values: Tensor, over: tuple[int, ...], real: Tensor | None
) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
    """Values (rows, lanes, channels, ...) with mean 0 and variance 1; mean and variance; how many
    values they are of.
    """
    counted = torch.ones_like(values) if real is None else real.to(values).expand_as(values)
    count = counted.sum(over, keepdim=True)
    most = count.clamp(min=1)
    mean = (values * counted).sum(over, keepdim=True) / most
    centred = values - mean
    variance = (centred.square() * counted).sum(over, keepdim=True) / most
    return centred * torch.rsqrt(variance + EPSILON), (mean, variance), count


def _stretch(scaled: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    places = [1] * (scaled.dim() - 3)
    shape = (*gain.shape, *places)
    return (scaled * gain.reshape(shape) + bias.reshape(shape)).flatten(1, 2)


def _follow(mean: Tensor, variance: Tensor, moments: tuple[Tensor, Tensor], count: Tensor) -> None:
    """Move the running statistics of lanes that have two values or more for each channel."""
    with torch.no_grad():
        values = count.view_as(mean)
        share = MOMENTUM * (values > 1).to(mean)
        unbiased = values / (values - 1).clamp(min=1)
        mean.lerp_(moments[0].view_as(mean), share)
        variance.lerp_(moments[1].view_as(mean) * unbiased, share)
