"""Intervals of held-out scores: by other ways of computing them, and by how often they cover."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from workers import metrics
from workers.evidence import areas, intervals, scoring
from workers.evidence.units import draws, standard_error, units

Rows = tuple[torch.Tensor, torch.Tensor]


def classes(right: int, rows: int) -> Rows:
    """Predictions of which `right` are right."""
    target = torch.zeros(rows, dtype=torch.int64)
    prediction = torch.full((rows, 2), 0.5, dtype=torch.float64)
    prediction[:right, 0] += 0.3
    prediction[right:, 1] += 0.3
    return prediction, target


def regression(rng: np.random.Generator, rows: int, noise: float = 0.5) -> Rows:
    """Predictions that explain 1 / (1 + noise^2) of the variance."""
    prediction = rng.normal(size=(rows, 1))
    target = prediction + noise * rng.normal(size=(rows, 1))
    return torch.from_numpy(prediction), torch.from_numpy(target)


def binary(rng: np.random.Generator, rows: int, apart: float = 1.5) -> Rows:
    """Probabilities of the second class whose normal scores lie `apart` in the two classes."""
    target = np.arange(rows) % 2
    second = 1 / (1 + np.exp(-rng.normal(size=rows) - apart * target))
    return torch.from_numpy(np.stack([1 - second, second], 1)), torch.from_numpy(target)


def covered(
    metric: str, true: float, draw: Callable[[], tuple[Rows, dict[str, Any]]], times: int
) -> float:
    """The share of simulated data sets whose interval holds the true score."""
    hits = 0
    for _ in range(times):
        rows, how = draw()
        found = intervals.interval(metric, intervals.scored(*rows, **how))
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= true <= found.high
    return hits / times


@pytest.mark.parametrize(("right", "rows"), [(90, 100), (100, 100), (0, 5), (1, 1)])
def test_accuracy_has_a_wilson_interval(right: int, rows: int) -> None:
    found = intervals.estimates("winner", ["accuracy"], *classes(right, rows))[0]
    wanted = stats.binomtest(right, rows).proportion_ci(method="wilson")
    ends = (found.value, found.low, found.high)
    assert ends == pytest.approx((right / rows, wanted.low, wanted.high), abs=1e-12)
    assert (found.rows, found.method) == (rows, "Wilson")


@pytest.mark.parametrize(("right", "rows"), [(20, 20), (1, 1)])
def test_an_interval_that_cannot_be_made_is_left_out(right: int, rows: int) -> None:
    found = intervals.estimates("winner", ["log_loss", "f1_macro"], *classes(right, rows))
    assert [(each.low, each.high) for each in found] == [(None, None)] * 2


def test_the_bootstrap_is_repeatable_and_covers_a_known_mean() -> None:
    rows = regression(np.random.default_rng(0), 200, noise=1)
    first, again = (intervals.estimates("winner", ["rmse", "r2"], *rows) for _ in range(2))
    assert first == again
    rmse = first[0]
    assert rmse.low is not None
    assert rmse.high is not None
    assert 0.8 < rmse.low < 1 < rmse.high < 1.25


def test_bca_agrees_with_scipy_but_for_the_widening() -> None:
    prediction, target = (each.numpy()[:, 0] for each in regression(np.random.default_rng(1), 300))
    wanted = stats.bootstrap(
        (prediction, target),
        lambda p, t, axis: np.sqrt(((p - t) ** 2).mean(axis)),
        paired=True,
        n_resamples=4000,
        rng=np.random.default_rng(2),
    ).confidence_interval
    rows = intervals.scored(*(torch.from_numpy(each[:, None]) for each in (prediction, target)))
    found = intervals.interval("rmse", rows)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.004)


@pytest.mark.parametrize("rows", [30, 100])
def test_the_interval_of_r2_covers_its_true_value(rows: int) -> None:
    rng = np.random.default_rng(rows)
    assert covered("r2", 0.8, lambda: (regression(rng, rows), {}), 200) >= 0.91


@pytest.mark.parametrize("rows", [30, 100])
def test_the_interval_of_a_mean_loss_covers_its_true_value(rows: int) -> None:
    rng = np.random.default_rng(rows)
    true = 0.5 * math.sqrt(2 / math.pi)
    assert covered("mae", true, lambda: (regression(rng, rows), {}), 400) >= 0.92


def test_a_mean_loss_is_t_on_the_log_scale() -> None:
    prediction, target = regression(np.random.default_rng(3), 50)
    losses = (prediction - target).abs().numpy()[:, 0]
    step = stats.t.ppf(0.975, 49) * stats.sem(losses) / losses.mean()
    found = intervals.interval("mae", intervals.scored(prediction, target))
    wanted = losses.mean() * np.exp([-step, step])
    assert (found.low, found.high) == pytest.approx(tuple(wanted))


def test_perplexity_is_the_exponential_of_log_loss_with_its_interval() -> None:
    rows = intervals.scored(*binary(np.random.default_rng(4), 60))
    log_loss, found = (intervals.interval(name, rows) for name in ("log_loss", "perplexity"))
    assert log_loss.low is not None
    assert found.low == pytest.approx(math.exp(log_loss.low))


def test_the_area_and_its_variance_are_those_of_all_pairs() -> None:
    prediction, target = binary(np.random.default_rng(5), 41)
    score, positive = prediction[:, 1].numpy().round(1), (target == 1).numpy()
    pairs = score[positive][:, None] - score[~positive][None, :]
    won = (pairs > 0) + (pairs == 0) / 2
    variance = stats.sem(won.mean(1)) ** 2 + stats.sem(won.mean(0)) ** 2
    value, influence = areas.placements(score, positive)
    assert value == pytest.approx(won.mean())
    assert (influence**2).sum() == pytest.approx(variance)


def test_the_interval_of_the_area_covers_its_true_value_and_stays_within_0_and_1() -> None:
    rng = np.random.default_rng(6)
    true = stats.norm.cdf(2.5 / math.sqrt(2))
    assert covered("roc_auc", true, lambda: (binary(rng, 40, 2.5), {}), 600) >= 0.93
    perfect = binary(rng, 40, 100)
    found = intervals.interval("roc_auc", intervals.scored(*perfect))
    assert found.low is not None
    assert 0.85 < found.low < 0.97
    assert found.high == 1


def test_the_area_of_one_class_has_no_interval() -> None:
    assert math.isnan(areas.area(np.zeros(3), np.ones(3, dtype=bool), units(3), 0.95)[0])


def test_the_area_of_several_classes_is_resampled_within_them() -> None:
    rng = np.random.default_rng(16)

    def draw(rows: int) -> Rows:
        target = np.arange(rows) % 3
        said = np.exp(rng.normal(size=(rows, 3)) + 1.5 * np.eye(3)[target])
        return torch.from_numpy(said / said.sum(1, keepdims=True)), torch.from_numpy(target)

    true = scoring.weighed("roc_auc", *draw(60_000), np.ones((1, 60_000)))[0]
    assert covered("roc_auc", true, lambda: (draw(60), {}), 100) >= 0.9
    found = intervals.interval("roc_auc", intervals.scored(*draw(60)))
    assert found.method == "stratified BCa bootstrap"


def test_balanced_accuracy_covers_its_true_value_near_1() -> None:
    rng = np.random.default_rng(7)

    def draw() -> tuple[Rows, dict[str, Any]]:
        target = np.repeat([0, 1], [80, 20])
        said = np.where(rng.random(100) < np.where(target, 0.9, 0.98), target, 1 - target)
        return (torch.eye(2, dtype=torch.float64)[said], torch.from_numpy(target)), {}

    assert covered("balanced_accuracy", 0.94, draw, 400) >= 0.93


def grouped(rng: np.random.Generator, groups: int, size: int) -> tuple[Rows, np.ndarray]:
    """Rows whose error is mostly their group's."""
    group = np.repeat(np.arange(groups), size)
    noise = rng.normal(size=groups)[group] + 0.3 * rng.normal(size=groups * size)
    prediction = rng.normal(size=groups * size)
    rows = (torch.from_numpy(each[:, None]) for each in (prediction, prediction + noise))
    return tuple(rows), group


@pytest.mark.parametrize(("metric", "true"), [("mae", 0.833), ("rmse", 1.044)])
def test_whole_groups_are_drawn(metric: str, true: float) -> None:
    rng = np.random.default_rng(8)

    def draw() -> tuple[Rows, dict[str, Any]]:
        rows, group = grouped(rng, 25, 8)
        return rows, {"group": group}

    assert covered(metric, true, draw, 100) >= 0.89
    assert covered(metric, true, lambda: (draw()[0], {}), 100) < 0.8


def test_an_accuracy_of_groups_covers_where_that_of_rows_does_not() -> None:
    rng = np.random.default_rng(9)

    def draw() -> tuple[Rows, dict[str, Any]]:
        group = np.repeat(np.arange(40), 5)
        right = rng.random(200) < rng.beta(0.9, 0.1, 40)[group]
        said = np.stack([right, ~right], 1).astype(float)
        return (torch.from_numpy(said), torch.zeros(200, dtype=torch.int64)), {"group": group}

    assert covered("accuracy", 0.9, draw, 400) >= 0.91
    assert covered("accuracy", 0.9, lambda: (draw()[0], {}), 400) < 0.8


def test_neighbours_in_time_are_drawn_together() -> None:
    rng = np.random.default_rng(10)

    def draw() -> tuple[Rows, dict[str, Any]]:
        steps = np.convolve(rng.normal(size=304), np.ones(5) / math.sqrt(5), "valid")
        return (torch.zeros(300, 1).double(), torch.from_numpy(steps[:, None])), {"ordered": True}

    true = math.sqrt(2 / math.pi)
    ordered = covered("mae", true, draw, 200)
    assert ordered >= 0.87
    assert ordered > covered("mae", true, lambda: (draw()[0], {}), 200) + 0.05


def test_a_weight_of_two_moves_the_score_like_a_second_copy() -> None:
    prediction, target = regression(np.random.default_rng(11), 40)
    twice = np.repeat(np.arange(40), [2] * 10 + [1] * 30)
    weight = np.array([2.0] * 10 + [1.0] * 30)
    weighed, copied = (
        intervals.estimates("winner", ["mae"], *rows, **how)[0]
        for rows, how in (
            ((prediction, target), {"weight": weight}),
            ((prediction[twice], target[twice]), {"group": twice}),
        )
    )
    assert weighed.value == pytest.approx(copied.value)
    assert (weighed.low, weighed.high) == pytest.approx((copied.low, copied.high))


def test_strata_keep_their_size_and_units_stay_whole() -> None:
    unit = units(6, np.array(["a", "a", "b", "b", "c", "c"]))
    rng = np.random.default_rng(12)
    counts = np.concatenate(list(draws(unit, 50, rng, stratum=np.array([0, 1, 1]))))
    assert counts.shape == (50, 6)
    assert (counts[:, 0::2] == counts[:, 1::2]).all()
    assert (counts[:, 0] == 1).all()
    assert len(np.unique(counts[:, 2])) == 3


def test_a_standard_error_of_rows_is_that_of_their_mean() -> None:
    values = np.random.default_rng(13).normal(size=20)
    error, degrees = standard_error((values - values.mean()) / 20, units(20))
    assert (error, degrees) == (pytest.approx(stats.sem(values)), 19)


def test_each_row_by_itself_adds_up_to_the_metric() -> None:
    prediction, target = binary(np.random.default_rng(14), 30)
    several = torch.stack([prediction, prediction.flip(1)])
    found = scoring.by_row("log_loss", several, target)
    for each, losses in zip(several, found, strict=True):
        whole = scoring.weighed("log_loss", each, target, np.ones((1, 30)))
        assert losses.mean() == pytest.approx(whole[0])


def test_short_ways_to_many_weighings_lead_to_the_same_scores() -> None:
    rng = np.random.default_rng(15)
    weights = rng.integers(0, 3, (20, 60)).astype(float)
    weights[0, 1:] = 0
    numbers = regression(rng, 60)
    said = torch.from_numpy(rng.dirichlet(np.ones(3), 60)), torch.from_numpy(np.arange(60) % 3)
    tied = said[0].round(decimals=1), said[1]
    two = binary(rng, 60)
    for metric, rows in (
        ("r2", numbers),
        ("f1_macro", said),
        ("balanced_accuracy", said),
        ("roc_auc", tied),
        ("roc_auc", two),
    ):
        found = scoring.weighed(metric, *rows, weights)
        slowly = [
            metrics.measure([metric], rows[0][None], rows[1][None], torch.from_numpy(each[None]))[
                metric
            ].item()
            for each in weights
        ]
        assert found == pytest.approx(slowly, nan_ok=True)


def test_blocks_that_begin_anywhere_cover_the_mean_of_a_series_better_than_rows_do() -> None:
    rng = np.random.default_rng(0)
    shocks = rng.normal(size=(300, 400))
    series = np.zeros((300, 200))
    value = np.zeros(300)
    for at in range(400):  # the first half forgets where it began
        value = 0.6 * value + shocks[:, at]
        series[:, at % 200] = value

    def covered(ordered: bool) -> float:
        unit = units(200)
        (counts,) = draws(unit, 400, np.random.default_rng(1), ordered=ordered)
        means = series @ counts.T / 200
        low, high = np.quantile(means, [0.025, 0.975], axis=1)
        return float(((low < 0) & (high > 0)).mean())

    rows, blocks = covered(False), covered(True)
    assert rows < 0.75
    assert rows + 0.1 < blocks < 0.97
