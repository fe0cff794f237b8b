"""A study's family has to fit its data, and what the spec leaves open is filled in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpo_service import catalog, errors, plans, protocol
from hpo_service.artifacts import Blobs
from hpo_service.database import Database


def plan(database: Database, folder: Path, model: str, dataset: str, **more: Any) -> plans.Plan:
    """Of a study with `more` in its objective, and what `spec` says beside it."""
    beside = more.pop("spec", {})
    objective = {"kind": "train", "model": model, "dataset": dataset} | more
    spec = {"name": "s", "objective": objective, "budget": {"trials": 3}} | beside
    with database.read() as session:
        return plans.plan(session, Blobs(folder), protocol.StudySpec.model_validate(spec))


def test_the_method_of_validation_is_filled_in(database: Database, tmp_path: Path) -> None:
    made = plan(database, tmp_path, "mlp", "iris")
    assert isinstance(made.spec.objective, protocol.TrainObjective)
    assert made.spec.objective.validation == protocol.Validation(method="k_fold")


def test_an_outer_fold_is_held_out_whatever_the_seed(database: Database, tmp_path: Path) -> None:
    folds = [{"folds": 3, "fold": fold} for fold in range(3)]
    made = [plan(database, tmp_path, "mlp", "iris", outer=each) for each in folds]
    again = plan(database, tmp_path, "mlp", "iris", outer=folds[0], spec={"seed": 9})
    assert again.search_sha256 == made[0].search_sha256
    assert again.holdout_sha256 == made[0].holdout_sha256
    assert len({each.holdout_sha256 for each in made}) == 3
    assert isinstance(again.spec.objective, protocol.TrainObjective)
    # What is stored can be asked for again.
    assert again.spec.objective.holdout is None


def test_several_targets_can_be_studied(database: Database, tmp_path: Path) -> None:
    assert {"ridge", "random_forest"} < set(plan(database, tmp_path, "mlp", "linnerud").baselines)


CHEAP = ("logistic_regression", "naive_bayes", "decision_tree", "random_forest")


@pytest.mark.parametrize(
    ("model", "dataset", "baselines"),
    [
        ("mlp", "iris", (*CHEAP, "gradient_boosting", "k_nearest_neighbors")),
        # 29 steps of 12 numbers and nine classes: boosting would take long.
        ("rnn", "japanese_vowels", (*CHEAP, "k_nearest_neighbors")),
    ],
)
def test_the_baselines_are_those_that_are_cheap_on_the_data(
    model: str, dataset: str, baselines: tuple[str, ...], database: Database, tmp_path: Path
) -> None:
    assert plan(database, tmp_path, model, dataset).baselines == baselines


def test_named_baselines_are_scored_and_no_others(database: Database, tmp_path: Path) -> None:
    # Too dear to be scored unasked.
    names = ["gradient_boosting", "logistic_regression"]
    made = plan(database, tmp_path, "rnn", "japanese_vowels", baselines=names)
    assert made.baselines == tuple(names)
    assert plan(database, tmp_path, "mlp", "iris", baselines=False).baselines == ()


@pytest.mark.parametrize(
    ("model", "names", "field"),
    [
        ("mlp", ["naive_bayes", "nothing"], "objective.baselines.1"),
        ("mlp", ["ridge"], "objective.baselines.0"),
        ("mlp", ["mlp"], "objective.baselines.0"),
        ("mlp", ["naive_bayes", "naive_bayes"], "objective.baselines"),
        ("gan", ["naive_bayes"], "objective.baselines.0"),
    ],
)
def test_baselines_that_a_study_cannot_have_are_refused(
    model: str, names: list[str], field: str, database: Database, tmp_path: Path
) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        plan(database, tmp_path, model, "iris", baselines=names)
    assert caught.value.fields[0].field == field


def test_what_a_setting_takes_is_no_first_metric(database: Database, tmp_path: Path) -> None:
    made = plan(database, tmp_path, "mlp", "iris", metrics=["accuracy", "latency", "parameters"])
    assert made.directions == ["maximize", "minimize", "minimize"]
    with pytest.raises(errors.InvalidRequest, match="name a score before it") as caught:
        plan(database, tmp_path, "mlp", "iris", metrics=["training_time", "accuracy"])
    assert caught.value.fields[0].field == "objective.metrics.0"


def test_a_metric_of_counts_refuses_targets_that_are_none(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plan(database, tmp_path, "mlp", "diabetes", metrics=["poisson_deviance"]).directions
    # The least progression is 25.
    bounded = replace(catalog.METRICS["poisson_deviance"], least_target=26)
    monkeypatch.setitem(catalog.METRICS, "poisson_deviance", bounded)
    with pytest.raises(errors.InvalidRequest, match="at least 26, but one is 25") as caught:
        plan(database, tmp_path, "mlp", "diabetes", record=["poisson_deviance"])
    assert caught.value.fields[0].field == "objective.record.0"


def test_a_class_for_each_step_asks_for_a_family_that_can(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "FAMILIES", {"mlp": catalog.FAMILIES["mlp"]})
    with pytest.raises(errors.InvalidRequest, match="of every step: no family does yet") as caught:
        plan(database, tmp_path, "mlp", "descriptions")
    assert caught.value.fields[0].field == "objective.model"
    tagger = replace(catalog.FAMILIES["mlp"], name="tagger", per_step=True)
    monkeypatch.setitem(catalog.FAMILIES, "tagger", tagger)
    with pytest.raises(errors.InvalidRequest, match="take one of tagger"):
        plan(database, tmp_path, "mlp", "descriptions")
    made = plan(database, tmp_path, "tagger", "descriptions", metrics=["perplexity"])
    assert (made.directions, made.baselines) == (["minimize"], ())


def test_a_kind_of_data_that_does_not_fit_is_refused(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = replace(catalog.FAMILIES["mlp"], name="images", kinds=("image",))
    monkeypatch.setitem(catalog.FAMILIES, "images", family)
    assert plan(database, tmp_path, "images", "digits").spec.name == "s"
    with pytest.raises(errors.InvalidRequest, match=r"kind image, but digits_rows is sequence: ta"):
        plan(database, tmp_path, "images", "digits_rows")


def test_a_study_begins_with_the_family_s_default(database: Database, tmp_path: Path) -> None:
    made = plan(database, tmp_path, "mlp", "iris", params={"epochs": 5})
    (first,) = made.first
    defaults = catalog.FAMILIES["mlp"].hyperparameters().model_dump()
    assert made.default
    assert first["learning_rate@adaptive"] == defaults["learning_rate"]
    # The space's decay is logarithmic and has no 0.
    assert first["weight_decay"] == pytest.approx(0, abs=1e-5)
    same = set(first) - {"learning_rate@adaptive", "weight_decay"}
    assert {"hidden_layers", "activation", "dropout"} < same
    assert all(first[name] == defaults[name] for name in same)
    assert "epochs" not in first


def test_a_default_outside_of_the_space_is_brought_into_it(
    database: Database, tmp_path: Path
) -> None:
    space = {
        "hidden_units": {"type": "int", "low": 100, "high": 200, "step": 20},
        "activation": {"type": "categorical", "choices": ["tanh", "swish"]},
        "learning_rate": {"type": "float", "low": 0.01, "high": 0.1},
    }
    made = plan(database, tmp_path, "mlp", "iris", spec={"search_space": space})
    assert made.first == ({"hidden_units": 100, "activation": "tanh", "learning_rate": 0.01},)


def test_what_is_tried_first_can_be_said(database: Database, tmp_path: Path) -> None:
    asked = [{"optimizer": "sgd", "learning_rate": 0.1}, {}]
    made = plan(database, tmp_path, "mlp", "iris", spec={"first": asked})
    assert made.first == ({"optimizer": "sgd", "learning_rate@sgd": 0.1}, {})
    assert not made.default
    assert plan(database, tmp_path, "mlp", "iris", spec={"first": []}).first == ()
    for wrong, field in (
        ([{"optimizer": "sgd", "learning_rate": 9.0}], "first.0.learning_rate@sgd"),
        ([{}, {"dropuot": 0.1}], "first.1.dropuot"),
        ([{}] * 4, "first"),
    ):
        with pytest.raises(errors.InvalidRequest) as caught:
            plan(database, tmp_path, "mlp", "iris", spec={"first": wrong})
        assert caught.value.fields[0].field == field


def test_a_grid_tries_what_is_on_it_alone(database: Database, tmp_path: Path) -> None:
    spec = {
        "search_space": {"dropout": {"type": "float", "low": 0, "high": 0.5, "step": 0.25}},
        "sampler": {"name": "grid"},
    }
    assert plan(database, tmp_path, "mlp", "iris", spec=spec).first == ()


def own(database: Database, folder: Path, objective: dict[str, Any], **more: Any) -> plans.Plan:
    """The plan of a study of a user's own function."""
    spec = {
        "name": "s",
        "objective": {"kind": "custom", "name": "m:f", "directions": ["maximize"]} | objective,
        "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
        "budget": {"trials": 3},
    } | more
    with database.read() as session:
        return plans.plan(session, Blobs(folder), protocol.StudySpec.model_validate(spec))


def test_a_function_of_ones_own_needs_no_data(database: Database, tmp_path: Path) -> None:
    made = own(database, tmp_path, {"directions": ["maximize", "minimize"]})
    assert (made.function, made.directions) == ("m:f", ["maximize", "minimize"])
    assert (made.search_sha256, made.holdout_sha256, made.baselines) == (None, None, ())
    assert made.first == ()
    assert own(database, tmp_path, {}, first=[{"x": 0.5}]).first == ({"x": 0.5},)


def test_a_function_of_ones_own_gets_the_rows_that_a_family_would_get(
    database: Database, tmp_path: Path
) -> None:
    made, trained = (
        own(database, tmp_path, {"dataset": "iris"}),
        plan(database, tmp_path, "mlp", "iris", holdout=0.2),
    )
    assert made.search_sha256 == trained.search_sha256 is not None
    assert made.holdout_sha256 == trained.holdout_sha256 is not None
    assert isinstance(made.spec.objective, protocol.CustomObjective)
    assert made.spec.objective.validation == protocol.Validation(method="k_fold")


@pytest.mark.parametrize(
    ("objective", "more", "field"),
    [
        ({}, {"search_space": None}, "search_space"),
        ({"params": {"x": 1}}, {}, "search_space.x"),
        ({"validation": {"folds": 3}}, {}, "objective.validation"),
        ({"holdout": 0.1}, {}, "objective.holdout"),
        ({"dataset": "nothing"}, {}, "objective.dataset"),
        ({"dataset": "iris", "validation": {"folds": 60}}, {}, "objective.validation.folds"),
        ({}, {"sampler": {"name": "magic"}}, "sampler.name"),
        (
            {},
            {"search_space": {n: {"type": "int", "low": 0, "high": 1} for n in ("x@a", "x@b")}},
            "search_space.x@b",
        ),
    ],
)
def test_what_is_wrong_with_a_study_of_ones_own_function_is_named(
    database: Database, tmp_path: Path, objective: dict[str, Any], more: Any, field: str
) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        own(database, tmp_path, objective, **more)
    assert caught.value.fields[0].field == field


@pytest.mark.parametrize(
    ("model", "dataset", "more", "share"),
    [
        ("mlp", "iris", {}, 0.0),
        ("mlp", "iris", {"holdout": 0.3}, 0.3),
        ("mlp", "digits", {}, 0.2),
        ("mlp", "digits", {"holdout": 0.0}, 0.0),
        ("mlp", "iris", {"metrics": ["accuracy", "log_loss"]}, 0.2),
        ("gan", "iris", {}, 0.2),
        ("rnn", "sunspots", {}, 0.2),
    ],
)
def test_small_data_holds_out_nothing_unless_asked(
    model: str,
    dataset: str,
    more: dict[str, Any],
    share: float,
    database: Database,
    tmp_path: Path,
) -> None:
    made = plan(database, tmp_path, model, dataset, **more)
    assert isinstance(made.spec.objective, protocol.TrainObjective)
    assert made.spec.objective.holdout == share
    assert (made.holdout_sha256 is not None) == (share > 0)


def test_the_rule_of_one_standard_error_measures_the_networks(
    database: Database, tmp_path: Path
) -> None:
    rule = {"select": "one_standard_error"}
    made = plan(database, tmp_path, "mlp", "iris", spec=rule)
    assert isinstance(made.spec.objective, protocol.TrainObjective)
    assert made.spec.objective.record == ["parameters"]
    with pytest.raises(errors.InvalidRequest, match="a rule for one metric"):
        plan(database, tmp_path, "mlp", "iris", metrics=["accuracy", "log_loss"], spec=rule)
    external = {
        "name": "s",
        "objective": {"kind": "external"},
        "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
        "budget": {"trials": 3},
        **rule,
    }
    given = protocol.StudySpec.model_validate(external)
    with database.read() as session, pytest.raises(errors.InvalidRequest, match="select: is a"):
        plans.plan(session, Blobs(tmp_path), given)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"params": {"train_share": 0.02}}, "objective.params.train_share"),
        (
            {"spec": {"search_space": {"train_share": {"type": "float", "low": 0.02, "high": 1}}}},
            "search_space.train_share",
        ),
        (
            {
                "spec": {
                    "search_space": {"train_share": {"type": "categorical", "choices": [1, 0.02]}}
                }
            },
            "search_space.train_share",
        ),
    ],
)
def test_a_share_that_leaves_no_row_of_each_class_is_refused(
    database: Database, tmp_path: Path, more: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.InvalidRequest, match="120 training rows leaves 2, too few") as wrong:
        plan(database, tmp_path, "mlp", "iris", holdout=0.0, **more)
    assert wrong.value.fields[0].field == field
