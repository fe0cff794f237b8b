"""Schedules against PyTorch's, and the drops of a plateau."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from hpo_service import protocol
from tests.hyperparameters import hyperparameters
from workers.training.schedules import SCHEDULES, plateau_drops

TORCH: dict[str, Any] = {
    "constant": lambda o, s, epochs: lr_scheduler.ConstantLR(o, factor=1.0),
    "step": lambda o, s, epochs: lr_scheduler.StepLR(o, s.schedule_epochs, s.schedule_factor),
    "cosine": lambda o, s, epochs: lr_scheduler.CosineAnnealingLR(o, epochs),
    "one_cycle": lambda o, s, epochs: lr_scheduler.OneCycleLR(
        o, max_lr=1.0, total_steps=epochs, final_div_factor=400, cycle_momentum=False
    ),
    "warm_up": lambda o, s, epochs: lr_scheduler.LinearLR(
        o, 1 / (s.schedule_epochs + 1), total_iters=s.schedule_epochs
    ),
}


def sgd() -> torch.optim.Optimizer:
    made = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    made.step()  # so that a schedule's step is not called before
    return made


@pytest.mark.parametrize("epochs", [4, 5, 30, 31])
@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - {"plateau"}))
def test_factors_are_those_of_pytorch(name: str, epochs: int) -> None:
    settings = hyperparameters(schedule=name, schedule_epochs=3, schedule_factor=0.3)
    peer = sgd()
    schedule = TORCH[name](peer, settings, epochs)
    for epoch in range(epochs):
        found = SCHEDULES[name](settings, epoch, epochs, [])
        assert found == pytest.approx(peer.param_groups[0]["lr"], rel=1e-9)
        peer.step()
        if epoch < epochs - 1:
            schedule.step()


@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_short_horizon_is_trained_at_some_rate(name: str, epochs: int) -> None:
    factors = [SCHEDULES[name](hyperparameters(), epoch, epochs, []) for epoch in range(epochs)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[0] >= 1 / 25


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("patience", [1, 2, 5])
def test_a_plateau_is_that_of_pytorch(direction: protocol.Direction, patience: int) -> None:
    rng = random.Random(patience)
    # Rounded, so that ties occur, which are not better.
    values = [round(abs(rng.gauss(10 / (at + 1), 1)), 1) for at in range(60)]
    settings = hyperparameters(schedule_factor=0.5, schedule_epochs=patience)
    drops = plateau_drops(values, direction, patience)
    peer = sgd()
    mode = "min" if direction == "minimize" else "max"
    schedule = lr_scheduler.ReduceLROnPlateau(
        peer, mode=mode, factor=0.5, patience=patience - 1, threshold=0, eps=0
    )
    for epoch, value in enumerate(values):
        found = SCHEDULES["plateau"](settings, epoch, 60, drops)
        assert found == pytest.approx(peer.param_groups[0]["lr"], rel=1e-9)
        # What is known before an epoch suffices for it.
        assert found == SCHEDULES["plateau"](
            settings, epoch, 60, plateau_drops(values[:epoch], direction, patience)
        )
        schedule.step(value)
    assert len(drops) > 2


def test_a_plateau_waits_from_its_last_drop() -> None:
    assert plateau_drops([3, 2, 2, 2, 2, 2, 1, 1, 1], "minimize", 2) == [4, 6, 9]
    assert plateau_drops([3, 2, 1], "minimize", 2) == []
    assert plateau_drops([1, 1, 2, 2], "maximize", 1) == [2, 4]
    assert plateau_drops([math.nan, math.nan, 1, 1], "minimize", 2) == [2]
    assert plateau_drops([], "minimize", 1) == []
