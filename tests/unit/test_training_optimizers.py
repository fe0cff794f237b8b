"""Optimizers over lanes: schedules and rates, several rules in one pass, checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.hyperparameters import hyperparameters
from workers.training.optimizers import OPTIMIZERS, Mixed, optimizer

NUMBERS = 12
# Runs of neighbours: two lanes, one, two, one.
RULES = ["sgd", "sgd", "adam", "adamw", "adamw", "sgd"]


def mixed_settings() -> list[Any]:
    return [
        hyperparameters(
            optimizer=rule,
            learning_rate=0.01 * (lane + 1),
            momentum=0.1 * lane,
            weight_decay=0.02 * (lane % 3),
            nesterov=lane % 2 == 1,
        )
        for lane, rule in enumerate(RULES)
    ]


def draw(seed: int, lanes: int = len(RULES)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(lanes, NUMBERS, dtype=torch.float64, generator=generator)


def take(ours: Any, parameters: Tensor, lanes: Sequence[int], seeds: Sequence[int]) -> None:
    """Steps with gradients that a lane gets wherever it is; every third leaves lane 3 idle."""
    for seed in seeds:
        idle = [at for at, lane in enumerate(lanes) if lane == 3 and seed % 3 == 0]
        ours.step(parameters, draw(seed)[list(lanes)], idle)


def test_equal_rules_are_one_optimizer_and_different_ones_are_mixed() -> None:
    settings = mixed_settings()
    assert type(optimizer(settings[:2], draw(0, 2))) is OPTIMIZERS["sgd"]
    assert isinstance(optimizer(settings, draw(0)), Mixed)


@pytest.mark.parametrize("shared", [True, False], ids=["one row of rates", "rates by lane"])
def test_a_lane_among_other_rules_computes_as_alone(shared: bool) -> None:
    settings, parameters = mixed_settings(), draw(0)
    rates = draw(99)[: 1 if shared else None].abs()
    packed = optimizer(settings, parameters, rates)
    starts = parameters.clone()
    factors = [1.0, 0.5, 0.25, 0.125, 1.0, 2.0]
    take(packed, parameters, range(6), range(1, 8))
    packed.scale(factors)
    take(packed, parameters, range(6), range(8, 15))
    kept = [1, 3, 5]
    packed.keep(kept)
    parameters = parameters[kept]
    take(packed, parameters, kept, range(15, 22))
    assert len(packed) == 3
    for at, lane in enumerate(kept):
        alone = starts[[lane]]
        ours = optimizer([settings[lane]], alone, rates if shared else rates[[lane]])
        take(ours, alone, [lane], range(1, 8))
        ours.scale([factors[lane]])
        take(ours, alone, [lane], range(8, 22))
        assert torch.equal(alone[0], parameters[at])


def test_lanes_of_mixed_rules_cannot_change_places() -> None:
    with pytest.raises(AssertionError, match="in their order"):
        optimizer(mixed_settings(), draw(0)).keep([3, 1])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rates_and_factors_act_as_learning_rates(name: str) -> None:
    def setting(rate: float) -> Any:
        return hyperparameters(optimizer=name, learning_rate=rate, weight_decay=0.1, nesterov=True)

    halves = torch.cat([torch.ones(1, 6), torch.full((1, 6), 4.0)], 1).double()
    parameters = draw(0, 1)
    slow, fast = parameters[:, :6].clone(), parameters[:, 6:].clone()
    both = optimizer([setting(0.02)], parameters, halves)
    both.scale([0.5])
    alone = [optimizer([setting(rate)], some) for rate, some in ((0.01, slow), (0.04, fast))]
    for seed in range(1, 9):
        gradient = draw(seed, 1)
        alone[0].step(slow, gradient[:, :6].clone())
        alone[1].step(fast, gradient[:, 6:].clone())
        both.step(parameters, gradient)
    torch.testing.assert_close(parameters, torch.cat([slow, fast], 1), rtol=1e-12, atol=1e-12)


def test_a_schedule_is_that_of_pytorch() -> None:
    setting = hyperparameters(optimizer="adamw", learning_rate=0.1, weight_decay=0.3)
    parameters = draw(0, 1)
    theirs = parameters[0].clone().requires_grad_()
    peer = torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.3)
    schedule = torch.optim.lr_scheduler.StepLR(peer, step_size=2, gamma=0.5)
    ours = optimizer([setting], parameters)
    for epoch in range(6):
        ours.scale([0.5 ** (epoch // 2)])
        theirs.grad = draw(epoch, 1)[0]
        ours.step(parameters, draw(epoch, 1))
        peer.step()
        schedule.step()
    torch.testing.assert_close(parameters[0], theirs.detach(), rtol=1e-9, atol=1e-9)


def test_loaded_lanes_go_on_as_those_that_were_stored() -> None:
    settings, parameters = mixed_settings(), draw(0)
    packed = optimizer(settings, parameters)
    take(packed, parameters, range(6), range(1, 8))
    assert [packed.steps_of(lane) for lane in range(6)] == [7, 7, 7, 5, 7, 7]
    order = [0, 2, 3]
    resumed = parameters[order]
    other = optimizer([settings[lane] for lane in order], resumed)
    for at, lane in enumerate(order):
        other.load(at, packed.state_of(lane), packed.steps_of(lane))
    take(packed, parameters, range(6), range(8, 12))
    take(other, resumed, order, range(8, 12))
    assert torch.equal(resumed, parameters[order])
    with pytest.raises(KeyError):
        other.load(1, packed.state_of(0), 3)
