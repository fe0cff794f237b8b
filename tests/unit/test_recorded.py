"""Recorded curves as studies: what benchmarks say of pruners rests on them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.pruning import _area, outcome
from benchmarks.recorded import FOLDED, TASKS, Recorded, Study, load
from hpo_service.cube import Cube
from hpo_service.protocol import FloatRange
from hpo_service.pruners import Facts
from hpo_service.seen import CODES


def recorded(losses: list[list[float]]) -> Recorded:
    """Settings along one side, with these losses by step."""
    given = np.array(losses)[:, :, None, None]
    cube = Cube({"x": FloatRange(type="float", low=0.0, high=1.0)})
    rows = np.linspace(0, 1, len(losses))[:, None]
    return Recorded(cube, rows, given, Facts(epochs=given.shape[1]))


@pytest.mark.parametrize("name", [*FOLDED, *TASKS])
def test_what_is_recorded_can_be_searched_and_judged(name: str) -> None:
    found = load(name)
    assert found.cube.legal(found.rows).all()
    assert found.facts.epochs == found.steps
    assert np.isfinite(found.mean[:, -1, 0]).mean() > 0.7
    for setting in (0, 7):
        assert found.nearest(found.rows[setting], []) == setting
        assert found.nearest(found.rows[setting], [setting]) != setting


def test_a_trial_ends_complete_pruned_or_diverged() -> None:
    curves = recorded([[1.0, 1.0, 1.0], [9.0, 9.0, 9.0], [1.0, np.nan, np.nan]])
    study = Study(curves, "threshold", {"upper": 5.0})
    assert list(study.run([0, 1, 2])) == [0, 1, 2]
    assert study.states == [CODES["complete"], CODES["pruned"], CODES["fail"]]
    assert (study.reached, study.epochs) == ([3, 1, 2], 6)
    seen = study.seen()
    assert seen.losses[:2, 0].tolist() == [1.0, 9.0]
    assert seen.steps.tolist() == [0, 1, 0]
    assert np.isnan(seen.at(2)[1, 0])


def test_trials_side_by_side_take_turns() -> None:
    study = Study(recorded([[1.0, 1.0], [2.0, 2.0]]), "none")
    ended = [(number, study.epochs) for number in study.run([0, 1], workers=2)]
    assert ended == [(0, 3), (1, 4)]


def test_without_a_pruner_nothing_is_saved_and_nothing_given_away() -> None:
    found = outcome(recorded([[3.0] * 4, [1.0] * 4, [2.0] * 4]), "none", [0, 1, 2], 1)
    assert (found.share, found.wrong, found.rank, found.reached) == (1, 0, 0, 1)
    assert found.time == pytest.approx(8 / 12)


def test_the_area_that_a_front_dominates() -> None:
    losses = np.array([[0.0, 0.5], [0.5, 0.0], [0.6, 0.6], [np.nan, 0.0]])
    assert _area(losses, np.array([1.0, 1.0])) == pytest.approx(0.75)
