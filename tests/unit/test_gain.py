"""What a search can still gain, also where losses leave little to compute with."""

from __future__ import annotations

import numpy as np
import pytest

from hpo_service import gain
from hpo_service.cube import Cube
from hpo_service.protocol import FloatRange

CUBE = Cube({"x": FloatRange(type="float", low=0.0, high=1.0)})


@pytest.mark.parametrize("size", [1.0, 1e-300, 1e300])
def test_it_is_told_in_the_unit_of_the_losses(size: float) -> None:
    rows = np.linspace(0, 0.6, 20)[:, None]
    losses = (rows[:, 0] - 1) ** 2
    usual, _ = gain.expected_of(CUBE, rows, losses)
    assert usual > 0
    found, _ = gain.expected_of(CUBE, rows, losses * size)
    assert found / size == pytest.approx(usual, rel=1e-6)


def test_of_losses_that_are_all_the_same_nothing_is_to_be_gained() -> None:
    rows = np.linspace(0, 1, 20)[:, None]
    assert gain.expected_of(CUBE, rows, np.full(20, 3.0)) == (0.0, 0.0)


def test_the_same_setting_time_and_again_is_no_failure() -> None:
    rows = np.full((40, 1), 0.5)
    expected, unexplained = gain.expected_of(CUBE, rows, np.random.default_rng(0).normal(size=40))
    assert np.isfinite([expected, unexplained]).all()
