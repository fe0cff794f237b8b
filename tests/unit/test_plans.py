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
    objective = {"kind": "train", "model": model, "dataset": dataset} | more
    spec = {"name": "s", "objective": objective, "budget": {"trials": 3}}
    with database.read() as session:
        return plans.plan(session, Blobs(folder), protocol.StudySpec.model_validate(spec))


def test_the_method_of_validation_is_filled_in(database: Database, tmp_path: Path) -> None:
    made = plan(database, tmp_path, "mlp", "iris")
    assert isinstance(made.spec.objective, protocol.TrainObjective)
    assert made.spec.objective.validation == protocol.Validation(method="k_fold")


def test_several_targets_can_be_studied(database: Database, tmp_path: Path) -> None:
    assert plan(database, tmp_path, "mlp", "linnerud").baselines == ("ridge",)


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
    assert plan(database, tmp_path, "images", "digits").baselines == ("logistic_regression",)
    with pytest.raises(errors.InvalidRequest, match=r"kind image, but digits_rows is sequence: ta"):
        plan(database, tmp_path, "images", "digits_rows")
