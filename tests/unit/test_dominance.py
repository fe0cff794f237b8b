"""Fronts of several losses, against their definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hpo_service import dominance

LOSSES = st.integers(1, 4).flatmap(
    lambda metrics: st.lists(
        st.lists(st.sampled_from([-1.0, 0.0, 1.0, 2.0, 3.0, np.inf]), min_size=metrics,
                 max_size=metrics), min_size=1, max_size=30,
    )
)  # fmt: skip


def dominates(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return bool((one <= other).all() and (one < other).any())


@given(LOSSES)
def test_a_trial_is_one_front_behind_the_last_of_those_that_dominate_it(
    given: list[list[float]],
) -> None:
    losses = np.array(given)
    fronts = dominance.fronts(losses)
    for at, row in enumerate(losses):
        behind = [fronts[i] for i, other in enumerate(losses) if dominates(other, row)]
        assert fronts[at] == max(behind, default=-1) + 1


@given(LOSSES)
def test_the_order_has_each_trial_once_and_none_before_one_that_dominates_it(
    given: list[list[float]],
) -> None:
    losses = np.array(given)
    order = dominance.order(losses)
    assert sorted(order) == list(range(len(losses)))
    place = np.argsort(order)
    for at, row in enumerate(losses):
        assert all(place[i] < place[at] for i, o in enumerate(losses) if dominates(o, row))


def test_of_one_front_the_ends_and_what_stands_alone_come_first() -> None:
    losses = np.array([[0.0, 10.0], [1.0, 5.0], [1.1, 4.9], [1.2, 4.8], [6.0, 1.0], [10.0, 0.0]])
    assert set(dominance.order(losses)[:3]) == {0, 4, 5}


@pytest.mark.parametrize("metrics", [1, 2, 3])
def test_a_trial_without_a_loss_comes_last(metrics: int) -> None:
    losses = np.zeros((3, metrics))
    losses[0, -1] = np.nan
    assert dominance.order(losses).tolist() == [1, 2, 0]


def test_no_trials_have_no_order() -> None:
    assert len(dominance.order(np.empty((0, 2)))) == 0
