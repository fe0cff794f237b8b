"""What benchmarks compare with must be right: a wrong peer makes every ratio wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import StratifiedKFold, TimeSeriesSplit, cross_val_score

from benchmarks import families, lines, rows, trivial
from hpo_service import catalog, protocol

FOLDS = protocol.Validation(folds=5)


def test_the_most_frequent_class_is_scored_on_the_folds_of_the_seed() -> None:
    data = rows.read("breast_cancer")
    folds = StratifiedKFold(5, shuffle=True, random_state=3)
    scores = cross_val_score(
        DummyClassifier(strategy="most_frequent"), data.numeric, data.target, cv=folds
    )
    assert trivial.score("breast_cancer", "accuracy", FOLDS, 3)[1] == pytest.approx(scores.mean())


def test_the_last_value_is_a_forecast_with_weight_one_on_the_last_step() -> None:
    data = rows.read("sunspots")
    last = LinearRegression()
    last.coef_, last.intercept_ = np.eye(24)[-1:], 0.0
    parts = TimeSeriesSplit(5).split(data.target)
    scores = [last.score(data.numeric[valid], data.target[valid]) for _, valid in parts]
    assert trivial.score("sunspots", "r2", FOLDS, 0)[1] == pytest.approx(np.mean(scores))


def test_what_follows_a_symbol_tells_more_than_how_frequent_it_is() -> None:
    found = trivial.score("descriptions", "perplexity", FOLDS, 0)[1]
    symbols = len(rows.read("descriptions").schema.classes)
    assert 1 < trivial.bigram("descriptions", FOLDS, 0) < found < symbols


def test_a_metric_without_a_trivial_predictor_is_refused() -> None:
    with pytest.raises(ValueError, match="log_loss"):
        trivial.score("iris", "log_loss", FOLDS, 0)


@pytest.mark.parametrize("name", families.CASES)
def test_every_case_is_a_study_whose_parameters_are_legal(name: str) -> None:
    case = families.CASES[name]
    for quick in (False, True):
        spec = protocol.StudySpec.model_validate(case.spec(name, quick))
        assert isinstance(spec.objective, protocol.TrainObjective)
        assert spec.objective.holdout == 0
        catalog.settings_of(catalog.FAMILIES[case.model], spec.objective.params)


def test_every_family_of_networks_has_a_case() -> None:
    networks = {family.name for family in catalog.FAMILIES.values() if family.network}
    assert {case.model for case in families.CASES.values()} == networks


def test_a_line_says_how_many_times_less_was_needed(capsys: pytest.CaptureFixture[str]) -> None:
    lines.emit("bench", "case", "s", 2.0, peer=5.0, peer_name="other", more={"params": {"a": 1}})
    line = json.loads(capsys.readouterr().out)
    assert line["ratio"] == 2.5
    assert line["params"] == {"a": 1}
