"""The estimate of a choice among many: against a plain loop, and on choices that gain nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, r2_score

from workers.evidence.bootstrap_cv import bootstrap_cv
from workers.evidence.units import draws, units


def guesses(
    rng: np.random.Generator, settings: int, rows: int, right: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Settings that are all right equally often: choosing among them gains nothing."""
    target = rng.integers(0, 2, rows)
    said = np.where(rng.random((settings, 1, rows)) < right, target, 1 - target)
    return torch.eye(2, dtype=torch.float64)[said], torch.from_numpy(target)


@pytest.mark.parametrize(
    ("metric", "peer"),
    [("accuracy", accuracy_score), ("balanced_accuracy", balanced_accuracy_score)],
)
def test_it_is_what_a_plain_loop_comes_to(metric: str, peer: object) -> None:
    prediction, target = guesses(np.random.default_rng(0), 4, 60, 0.7)
    said, true = prediction[:, 0].argmax(2).numpy(), target.numpy()
    counts = np.concatenate(list(draws(units(60), 50, np.random.default_rng(3))))
    outside = []
    for drawn in counts:
        inside = np.repeat(np.arange(60), drawn)
        best = int(np.argmax([peer(true[inside], each[inside]) for each in said]))
        outside.append(peer(true[drawn == 0], said[best][drawn == 0]))
    found = bootstrap_cv(metric, "maximize", prediction, target, times=50, seed=3)
    assert found.value == pytest.approx(np.mean(outside))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(outside, [0.025, 0.975])))
    assert found.chosen.sum() == pytest.approx(1)


def test_repeats_are_averaged() -> None:
    rng = np.random.default_rng(1)
    target = torch.from_numpy(rng.normal(size=(50, 1)))
    prediction = target + torch.from_numpy(rng.normal(size=(3, 2, 50, 1)))
    found = bootstrap_cv("r2", "maximize", prediction, target)
    means = [np.mean([r2_score(target, each) for each in setting]) for setting in prediction]
    assert found.best == pytest.approx(max(means))
    assert found.setting == int(np.argmax(means))
    errors = bootstrap_cv("mae", "minimize", prediction, target)
    assert errors.best == pytest.approx((prediction - target).abs().mean((1, 2, 3)).min().item())


def test_the_curse_of_the_winner_is_taken_away() -> None:
    rng = np.random.default_rng(2)
    found = [
        bootstrap_cv("accuracy", "maximize", *guesses(rng, 30, 100, 0.8), times=200)
        for _ in range(60)
    ]
    error = np.array([each.value for each in found]) - 0.8
    assert np.mean([each.best for each in found]) > 0.86
    assert abs(error.mean()) < 0.02
    assert np.mean([each.low <= 0.8 <= each.high for each in found]) >= 0.93


def test_whole_groups_are_in_the_bag_or_out_of_it() -> None:
    group = np.repeat(np.arange(10), 10)
    target = torch.from_numpy(group % 2)
    # One setting is right in even groups alone, the other in odd ones.
    said = np.stack([np.zeros(100), np.ones(100)]).astype(int)[:, None]
    prediction = torch.eye(2, dtype=torch.float64)[said]
    rows = bootstrap_cv("accuracy", "maximize", prediction, target)
    groups = bootstrap_cv("accuracy", "maximize", prediction, target, group=group)
    assert groups.value < rows.value
    assert groups.high - groups.low > 2 * (rows.high - rows.low)


def test_the_same_seed_gives_the_same_estimate() -> None:
    prediction, target = guesses(np.random.default_rng(4), 5, 40, 0.7)
    first, again, other = (
        bootstrap_cv("accuracy", "maximize", prediction, target, seed=seed).value
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_too_little_to_score_says_so() -> None:
    prediction, target = guesses(np.random.default_rng(5), 2, 1, 0.5)
    found = bootstrap_cv("accuracy", "maximize", prediction, target)
    assert math.isnan(found.value)
