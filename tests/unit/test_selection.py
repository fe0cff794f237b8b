"""The one-standard-error rule."""

from __future__ import annotations

import math

import pytest

from hpo_service.selection import Candidate, corrected_error, one_standard_error

FOLDS = {"n_train": 80.0, "n_valid": 20.0}


def candidate(number: int, folds: list[float], parameters: int) -> Candidate:
    return Candidate(number, sum(folds) / len(folds), folds, parameters)


BEST = candidate(3, [0.90, 0.94, 0.92, 0.96], 1000)


def test_a_smaller_network_within_one_error_is_taken() -> None:
    near = candidate(1, [0.91, 0.92, 0.93, 0.93], 10)
    far = candidate(0, [0.80, 0.84, 0.82, 0.86], 1)
    found = one_standard_error([far, near, BEST], "maximize", **FOLDS)
    assert found is near


def test_folds_are_compared_in_pairs() -> None:
    # Worse by the same amount on every fold: certainly worse, however far the folds spread.
    always = candidate(1, [fold - 0.005 for fold in BEST.folds], 10)
    assert one_standard_error([always, BEST], "maximize", **FOLDS) is BEST


def test_of_equal_size_the_better_then_the_older_wins() -> None:
    twin = candidate(2, list(BEST.folds), 1000)
    near = candidate(1, [0.91, 0.92, 0.93, 0.93], 1000)
    assert one_standard_error([near, BEST, twin], "maximize", **FOLDS) is twin


def test_losses_are_minimised() -> None:
    low = candidate(0, [0.1, 0.2, 0.1, 0.2], 100)
    high = candidate(1, [0.9, 0.8, 0.9, 0.7], 1)
    assert one_standard_error([high, low], "minimize", **FOLDS) is low


def test_one_fold_can_tell_nothing_so_the_best_is_taken() -> None:
    first, second = candidate(0, [0.9], 100), candidate(1, [0.8999], 1)
    assert one_standard_error([first, second], "maximize", **FOLDS) is first
    assert math.isnan(corrected_error([0.1], 0.25))


def test_the_error_is_corrected_for_shared_training_rows() -> None:
    assert corrected_error([1.0, 3.0], 0.25) == pytest.approx(math.sqrt(2) * math.sqrt(0.75))
