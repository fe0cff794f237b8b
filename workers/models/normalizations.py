"""Normalizations of a layer's sums before its activation, their backward passes by hand.

`batch` (Ioffe and Szegedy 2015): each unit over the rows of a batch; predictions use running
means and variances, which are statistics of each lane. `layer` (Ba, Kiros and Hinton 2016): each
row over its units. Both are the same formulas along another axis of (lanes, rows, units).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

EPSILON = 1e-5
# How much of the running statistics a batch replaces.
RATE = 0.1

ROWS, UNITS = 1, 2


@dataclass(frozen=True)
class Running:
    """A layer's running statistics, (lanes, 1, units) views that are written to."""

    mean: Tensor
    variance: Tensor


class Normalization:
    """One layer's normalization for a number of rows; `z` is replaced by what is normalised."""

    def __init__(self, axis: int, like: Tensor) -> None:
        self._axis = axis
        self._hat, self._scratch = torch.empty_like(like), torch.empty_like(like)

    def forward(self, z: Tensor, scale: Tensor, shift: Tensor, real: Tensor | None) -> None:
        """`real` (lanes, rows, 1) is 1 for rows that count and 0 for padding; None: all count."""
        self._share = self._shares(z, real)
        self._mean = self._average(z)
        centred = torch.sub(z, self._mean, out=self._hat)
        self._variance = self._average(torch.square(centred, out=self._scratch))
        self._inverse = torch.rsqrt(self._variance + EPSILON)
        centred.mul_(self._inverse)
        torch.addcmul(shift, centred, scale, out=z)

    def backward(self, gradient: Tensor, scale: Tensor, found: tuple[Tensor, Tensor]) -> None:
        """Replace dloss/d(what `forward` gave) by dloss/dz; `found`: scale's and shift's."""
        hat = self._hat
        torch.sum(torch.mul(gradient, hat, out=self._scratch), dim=1, keepdim=True, out=found[0])
        torch.sum(gradient, dim=1, keepdim=True, out=found[1])
        gradient.mul_(scale)
        along = self._average(torch.mul(gradient, hat, out=self._scratch))
        gradient.sub_(self._average(gradient)).addcmul_(hat, along, value=-1)
        gradient.mul_(self._inverse)
        if self._axis == ROWS and self._real is not None:
            gradient.mul_(self._real)

    def track(self, running: Running) -> None:
        """Move the running statistics to the newest batch, in lanes that had a row."""
        rows, rate = self._count, RATE * (self._count > 0).to(self._mean)
        running.mean.lerp_(self._mean, rate)
        # The variance of a sample is that of its rows times n / (n - 1).
        unbiased = self._variance * (rows / (rows - 1).clamp(min=1))
        running.variance.lerp_(unbiased, rate)

    def _shares(self, z: Tensor, real: Tensor | None) -> Tensor | None:
        """What each row counts in an average; None where they count alike."""
        self._real = real
        if self._axis == UNITS:
            return None
        if real is None:
            self._count = z.new_full((len(z), 1, 1), z.shape[ROWS])
            return None
        self._count = real.sum(1, keepdim=True)
        return real / self._count.clamp(min=1)

    def _average(self, values: Tensor) -> Tensor:
        if self._share is None:
            return values.mean(self._axis, keepdim=True)
        return (values * self._share).sum(1, keepdim=True)


def normalized(
    axis: int, z: Tensor, scale: Tensor, shift: Tensor, running: Running | None
) -> Tensor:
    """For predictions: by the running statistics along rows, by the row itself along units."""
    if running is not None:
        mean, variance = running.mean, running.variance
    else:
        mean = z.mean(axis, keepdim=True)
        variance = (z - mean).square().mean(axis, keepdim=True)
    return torch.addcmul(shift, (z - mean) * torch.rsqrt(variance + EPSILON), scale)


AXES = {"batch": ROWS, "layer": UNITS}
