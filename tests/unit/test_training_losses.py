"""The losses of rows and their gradients against PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from workers.models.losses import row_losses

SMOOTHING = [None, [0.0, 0.1, 0.7]]


def column(smoothing: list[float] | None) -> Tensor | None:
    return None if smoothing is None else torch.tensor(smoothing, dtype=torch.float64)


def logits(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    drawn = 3 * torch.randn(*shape, dtype=torch.float64, generator=generator)
    return drawn.requires_grad_()


def gradient(loss: Tensor, outputs: Tensor) -> Tensor:
    return torch.autograd.grad(loss, outputs, retain_graph=True)[0]


@pytest.mark.parametrize("smoothing", SMOOTHING)
def test_cross_entropy(smoothing: list[float] | None) -> None:
    outputs = logits(3, 8, 5)
    target = torch.arange(24).view(3, 8) % 5
    found = row_losses(outputs, target, column(smoothing))
    for lane, share in enumerate(smoothing or [0.0] * 3):
        wanted = functional.cross_entropy(
            outputs[lane], target[lane], label_smoothing=share, reduction="none"
        )
        torch.testing.assert_close(found[lane], wanted)
        ours, theirs = gradient(found[lane].sum(), outputs), gradient(wanted.sum(), outputs)
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("smoothing", SMOOTHING)
def test_cross_entropy_of_steps(smoothing: list[float] | None) -> None:
    outputs = logits(3, 4, 6, 5)
    target = torch.arange(72).view(3, 4, 6) % 5
    target[0, 1, 2:] = -1
    target[:, 2] = -1
    target[2, 0, ::2] = -1
    found = row_losses(outputs, target, column(smoothing))
    rows = []
    for lane, share in enumerate(smoothing or [0.0] * 3):
        for row in range(4):
            loss = functional.cross_entropy(
                outputs[lane, row], target[lane, row], ignore_index=-1, label_smoothing=share
            )
            rows.append(loss if (target[lane, row] >= 0).any() else torch.zeros_like(loss))
    wanted = torch.stack(rows).view(3, 4)
    torch.testing.assert_close(found, wanted)
    ours, theirs = gradient(found.sum(), outputs), gradient(wanted.sum(), outputs)
    torch.testing.assert_close(ours, theirs)
    assert ours[target < 0].abs().sum() == 0


def test_squared_error() -> None:
    outputs, target = logits(3, 8, 2), torch.ones(3, 8, 2, dtype=torch.float64)
    found = row_losses(outputs, target, column([0.0, 0.1, 0.7]))
    wanted = functional.mse_loss(outputs, target, reduction="none").mean(2)
    torch.testing.assert_close(found, wanted)
    ours, theirs = gradient(found.sum(), outputs), gradient(wanted.sum(), outputs)
    torch.testing.assert_close(ours, theirs)
