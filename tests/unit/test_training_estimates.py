"""Intervals of held-out scores, also where there is little to say."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from workers import estimates


def classes(right: int, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions of which `right` are right."""
    target = torch.zeros(rows, dtype=torch.int64)
    prediction = torch.full((rows, 2), 0.5, dtype=torch.float64)
    prediction[:right, 0] += 0.3
    prediction[right:, 1] += 0.3
    return prediction, target


@pytest.mark.parametrize(("right", "rows"), [(90, 100), (100, 100), (0, 5), (1, 1)])
def test_accuracy_has_a_wilson_interval(right: int, rows: int) -> None:
    found = estimates.estimates("winner", ["accuracy"], *classes(right, rows))[0]
    wanted = stats.binomtest(right, rows).proportion_ci(method="wilson")
    assert (found.value, found.low, found.high) == (right / rows, wanted.low, wanted.high)
    assert found.rows == rows


@pytest.mark.parametrize(("right", "rows"), [(20, 20), (1, 1)])
def test_an_interval_that_cannot_be_made_is_left_out(right: int, rows: int) -> None:
    found = estimates.estimates("winner", ["log_loss", "f1_macro"], *classes(right, rows))
    assert [(each.low, each.high) for each in found] == [(None, None)] * 2


def test_the_bootstrap_is_repeatable_and_covers_a_known_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(200, 1, dtype=torch.float64, generator=generator)
    noise = torch.randn(200, 1, dtype=torch.float64, generator=generator)
    first, again = (
        estimates.estimates("winner", ["rmse", "r2"], target + noise, target) for _ in range(2)
    )
    assert first == again
    rmse = first[0]
    assert rmse.low is not None
    assert rmse.high is not None
    assert 0.8 < rmse.low < 1 < rmse.high < 1.25
