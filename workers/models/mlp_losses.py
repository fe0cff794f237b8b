"""Losses of perceptrons with their gradients by the outputs, for steps of so many rows.

Outputs lie (lanes, outputs, rows), as `mlp_layers` gives them. `losses.row_losses` is the same
for networks whose backward pass is derived.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class OutputLoss(Protocol):
    """Made once for a number of rows: it owns its buffers."""

    def __call__(
        self, outputs: Tensor, target: Tensor, weights: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        """Loss of each row, (lanes, rows), and its gradient by the outputs, weighted."""


class CrossEntropy:
    """Of classes; each lane has its own share of a label that is spread over all classes."""

    def __init__(self, outputs: Tensor, smoothing: Sequence[float]) -> None:
        lanes, _, rows = outputs.shape
        self._gradient = torch.empty_like(outputs)
        self._smoothing = outputs.new_tensor(smoothing).view(-1, 1) if any(smoothing) else None
        # What the true class's gradient has beside its probability.
        self._true_class = outputs.new_full((lanes, 1, rows), -1.0)
        if self._smoothing is not None:
            self._true_class += self._smoothing.unsqueeze(2)

    def __call__(
        self, outputs: Tensor, target: Tensor, weights: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        codes = target.unsqueeze(1)
        logs = torch.log_softmax(outputs, dim=1)
        losses = logs.gather(1, codes).squeeze(1).neg_()
        gradient = torch.exp(logs, out=self._gradient)
        gradient.scatter_add_(1, codes, self._true_class)
        if self._smoothing is not None:
            losses.mul_(1 - self._smoothing).sub_(logs.mean(1).mul_(self._smoothing))
            gradient.sub_(self._smoothing.unsqueeze(2) / gradient.shape[1])
        return losses, gradient.mul_(_by_row(weights))


class SquaredError:
    """Of numbers, their mean."""

    def __init__(self, outputs: Tensor) -> None:
        self._gradient = torch.empty_like(outputs)

    def __call__(
        self, outputs: Tensor, target: Tensor, weights: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        error = torch.sub(outputs, target.transpose(1, 2), out=self._gradient)
        return error.square().mean(1), error.mul_(2 / error.shape[1]).mul_(_by_row(weights))


class PerceptronCriterion:
    """How far the largest output is above that of the true class.

    Its gradient is the rule of Rosenblatt (1958) in Kesler's form for several classes (Crammer
    and Singer 2003): a row that is taken for another class is added to the weights of its own
    and subtracted from those of the other; a row that is not changes nothing.
    """

    def __init__(self, outputs: Tensor) -> None:
        self._gradient = torch.empty_like(outputs)
        self._one = outputs.new_ones(len(outputs), 1, outputs.shape[2])

    def __call__(
        self, outputs: Tensor, target: Tensor, weights: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        codes = target.unsqueeze(1)
        largest, taken = outputs.max(1, keepdim=True)
        losses = (largest - outputs.gather(1, codes)).squeeze(1)
        gradient = self._gradient.zero_().scatter_(1, taken, self._one)
        gradient.scatter_add_(1, codes, -self._one)
        return losses, gradient.mul_(_by_row(weights))


def _by_row(weights: Tensor | float) -> Tensor | float:
    return weights.unsqueeze(1) if isinstance(weights, Tensor) else weights
