"""Penalties on the gradient against autograd and PyTorch's clipping, lane by lane."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.hyperparameters import hyperparameters
from workers.training.penalties import penalties

SETTINGS = [
    hyperparameters(),
    hyperparameters(l1=0.3),
    hyperparameters(performance_ratio=0.4),
    hyperparameters(clip_norm=0.5),
    hyperparameters(clip_norm=1e6),
    hyperparameters(l1=0.2, performance_ratio=0.7, clip_norm=0.9),
]
SIZES = [12, 12, 10, 12, 12, 9]


def numbers() -> tuple[Tensor, Tensor, Tensor]:
    """Parameters, with a zero among them and zeros as padding; what a loss is linear in; sizes."""
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(6, 12, dtype=torch.float64, generator=generator)
    slopes = torch.randn(6, 12, dtype=torch.float64, generator=generator)
    parameters[:, 3] = 0
    for lane, size in enumerate(SIZES):
        parameters[lane, size:] = slopes[lane, size:] = 0
    return parameters, slopes, torch.tensor(SIZES, dtype=torch.float64).unsqueeze(1)


def wanted(s: Any, parameters: Tensor, slopes: Tensor, size: int) -> Tensor:
    weights = parameters[:size].clone().requires_grad_()
    loss = (slopes[:size] * weights).sum()
    loss = (1 - s.performance_ratio) * loss + s.performance_ratio * weights.square().mean()
    torch.autograd.backward(loss + s.l1 * weights.abs().sum())
    if s.clip_norm:
        torch.nn.utils.clip_grad_norm_([weights], s.clip_norm)
    assert weights.grad is not None
    return torch.nn.functional.pad(weights.grad, (0, len(parameters) - size))


def test_penalised_gradients_are_those_of_autograd() -> None:
    parameters, slopes, sizes = numbers()
    found = slopes.clone()
    before = parameters.clone()
    penalties(SETTINGS, sizes).apply(parameters, found)
    for lane, (setting, size) in enumerate(zip(SETTINGS, SIZES, strict=True)):
        expected = wanted(setting, parameters[lane], slopes[lane], size)
        torch.testing.assert_close(found[lane], expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(found[0], slopes[0])
    assert torch.equal(found[4], slopes[4])
    assert torch.equal(parameters, before)


def test_kept_lanes_keep_their_own_penalties() -> None:
    parameters, slopes, sizes = numbers()
    every, kept = slopes.clone(), slopes[[2, 5]]
    ours = penalties(SETTINGS, sizes)
    ours.apply(parameters, every)
    ours.keep([2, 5])
    ours.apply(parameters[[2, 5]], kept)
    assert torch.equal(kept, every[[2, 5]])


def test_a_diverged_lane_that_does_not_clip_is_left_as_it_is() -> None:
    gradient = torch.tensor([[torch.inf, 1.0], [3.0, 4.0]])
    settings = [hyperparameters(), hyperparameters(clip_norm=1.0)]
    penalties(settings, torch.full((2, 1), 2.0)).apply(torch.ones(2, 2), gradient)
    assert gradient[0].tolist() == [torch.inf, 1.0]
    torch.testing.assert_close(gradient[1], torch.tensor([0.6, 0.8]))
