"""Studies of families that make rows: a task of their own, whatever the data's is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.conftest import Api


def spec(model: str = "gan", dataset: str = "iris", **objective: Any) -> dict[str, Any]:
    given = {"kind": "train", "model": model, "dataset": dataset} | objective
    return {"name": "rows", "objective": given, "budget": {"trials": 2}}


@pytest.mark.parametrize("dataset", ["iris", "diabetes"])
def test_generation_is_studied_on_data_of_any_task_without_baselines(
    api: Api, dataset: str
) -> None:
    study = api.post("/studies", spec(dataset=dataset))
    assert study["directions"] == ["minimize"]
    assert study["spec"]["objective"]["metrics"] == ["mmd"]
    assert api.get("/studies/rows/final")["baselines"] == []
    api.post("/studies", spec(model="mlp", dataset=dataset) | {"name": "other"})
    assert api.get("/studies/other/final")["baselines"] != []


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (spec(metrics=["accuracy"]), "objective.metrics.0"),
        (spec(record=["r2"]), "objective.record.0"),
        (spec(model="mlp", metrics=["mmd"]), "objective.metrics.0"),
        (spec(dataset="diabetes", validation={"stratify": True}), "objective.validation.stratify"),
    ],
)
def test_its_metrics_compare_rows_and_no_others_do(
    api: Api, given: dict[str, Any], field: str
) -> None:
    answer = api.http.post("/v1/studies", json=given)
    assert answer.status_code == 422
    assert [each["field"] for each in answer.json()["error"]["fields"]] == [field]


def test_classes_may_be_stratified_though_the_study_leaves_them_aside(api: Api) -> None:
    assert api.post("/studies", spec(validation={"stratify": True}))["name"] == "rows"


def test_no_data_set_is_for_generation(api: Api) -> None:
    answer = api.http.post(
        "/v1/datasets",
        params={"name": "mine", "target": "b", "task": "generation"},
        content=b"a,b\n1,2\n3,4\n",
        headers={"Content-Type": "text/csv"},
    )
    assert answer.status_code == 422
