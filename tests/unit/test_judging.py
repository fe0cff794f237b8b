"""What pruners are told of a study before its first trial."""

from __future__ import annotations

from typing import Any

import pytest

from hpo_service.judging import MANY_FOLDS, facts_of
from tests.searching import spec_of

RATE = {"learning_rate": {"type": "float", "low": 0.001, "high": 0.1}}
EPOCHS = {"epochs": {"type": "int", "low": 3, "high": 9}}


def of(params: dict[str, Any], searched: dict[str, Any] = RATE, **objective: Any) -> Any:
    trained = {"kind": "train", "model": "mlp", "dataset": "digits", "params": params}
    return facts_of(spec_of(objective=trained | objective, search_space=searched), ["maximize"])


def test_epochs_are_known_where_all_trials_have_the_same() -> None:
    assert of({}).epochs == 30  # the family's own
    assert of({"epochs": 12}).epochs == 12
    assert of({}, EPOCHS).epochs is None


def test_so_many_iterations_are_nobody_knows_how_many_epochs() -> None:
    fixed = of({"iterations": 500})
    searched = of({}, {"iterations": {"type": "int", "low": 100, "high": 500}})
    assert (fixed.epochs, searched.epochs) == (None, None)
    assert fixed.iterated
    assert searched.iterated
    assert not of({}).iterated


@pytest.mark.parametrize(
    ("validation", "folds", "ratio"),
    [
        ({"method": "k_fold", "folds": 4, "repeats": 2}, 8, 1 / 3),
        ({"method": "hold_out", "share": 0.2, "repeats": 3}, 3, 0.25),
        ({"method": "time_series", "folds": 4}, 4, 1.0),
        ({"method": "leave_one_out"}, MANY_FOLDS, 0.0),
    ],
)
def test_folds_and_how_much_they_share(
    validation: dict[str, Any], folds: int, ratio: float
) -> None:
    facts = of({}, validation=validation)
    assert (facts.folds, facts.signs) == (folds, (-1.0,))
    assert facts.ratio == pytest.approx(ratio)


def test_of_what_others_measure_no_folds_are_known() -> None:
    external = facts_of(spec_of(), ["minimize"])
    own = {"kind": "custom", "name": "m:f", "directions": ["minimize"]}
    without_data = facts_of(spec_of(objective=own), ["minimize"])
    assert (external.folds, without_data.folds) == (0, 0)
    assert facts_of(spec_of(objective=own | {"dataset": "digits"}), ["minimize"]).folds == 5
