"""Files as a newcomer has them, sent over the API: a sensible answer or a clear word on each."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from hpo_service import protocol
from hpo_service.client import Client
from tests.integration.conftest import Api
from tests.uploads import csv_of, npz_of, parquet_of

ROWS = 60
RNG = np.random.default_rng(0)
X = RNG.normal(size=ROWS)
YES_NO = np.where(X + RNG.normal(size=ROWS) > 0, "yes", "no")
LINES = {"id": np.arange(120) // 2, "t": range(120), "a": np.tile(X, 2), "y": YES_NO.repeat(2)}


def post(api: Api, data: bytes, **query: Any) -> Any:
    """Status and body of the answer."""
    answer = api.http.post("/v1/datasets", params={"name": "mine", **query}, content=data)
    return answer.status_code, answer.json()


def study(api: Api, **objective: Any) -> Any:
    given = {"kind": "train", "model": "mlp", "dataset": "mine"} | objective
    body = {"name": "s", "objective": given, "budget": {"trials": 1}}
    answer = api.http.post("/v1/studies", json=body)
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    ("data", "query", "kind"),
    [
        (csv_of(x=X, y=YES_NO), {"target": "y"}, "table"),
        (npz_of(x=RNG.normal(size=(ROWS, 4)), y=YES_NO), {}, "table"),
        (npz_of(x=RNG.normal(size=(ROWS, 8, 8, 3)), y=YES_NO), {}, "image"),
        (npz_of(x=RNG.normal(size=(ROWS, 9, 2)), y=X), {}, "sequence"),
        (csv_of(**LINES), {"target": "y", "id": "id", "time": "t"}, "sequence"),
        (csv_of(v=X), {"target": "v", "forecast": 5}, "sequence"),
        (csv_of(t=["so good", "so bad"] * 30, y=YES_NO), {"target": "y", "text": "t"}, "symbols"),
    ],
)
def test_a_file_becomes_a_data_set_that_studies_take(
    api: Api, data: bytes, query: dict[str, Any], kind: str
) -> None:
    status, made = post(api, data, **query)
    assert status == 201, made
    schema = protocol.DatasetSchema.model_validate(made["contents"])
    assert schema.kind == kind
    assert study(api, holdout=0.2)[0] == 201
    # The same again is the same data set.
    assert post(api, data, **query) == (201, made)


def test_a_parquet_file_is_taken_whatever_it_is_called(api: Api) -> None:
    data = parquet_of(x=X, y=YES_NO)
    status, made = post(api, data, target="y")
    assert (status, made["contents"]["rows"]) == (201, ROWS)
    assert post(api, data, target="y", format="csv")[0] == 422


def test_the_client_sends_every_option(api: Api) -> None:
    data = csv_of(
        x=X, w=X**2 + 1, g=range(ROWS), d=range(ROWS), n=["?!", *range(1, ROWS)], y=YES_NO
    )
    upload = protocol.Upload(
        name="mine", target="y", weight="w", group="g", numeric=["n"], drop=["d"]
    )
    with Client("http://127.0.0.1:1", http=api.http) as client:
        made = client.add_dataset(upload, data)
    assert made.contents is not None
    assert (made.contents.weighted, made.contents.grouped) == (True, True)
    assert [column.name for column in made.contents.columns] == ["x", "n"]


ROUND = {"x": X, "y": YES_NO}


@pytest.mark.parametrize(
    ("data", "query", "says"),
    [
        (csv_of(**ROUND, leak=YES_NO == "yes"), {}, "Column 'leak' alone tells the target"),
        (csv_of(**ROUND, empty=[None] * ROWS), {}, "Column 'empty' has no value in any row"),
        (csv_of(**ROUND, same=[1] * ROWS), {}, "Column 'same' has the same value in all rows"),
        (csv_of(x=X.round(), y=YES_NO), {}, "rows equal to another row"),
        (csv_of(x=["oops", *X[1:]], z=X, y=YES_NO), {}, "line 2 has 'oops'"),
        (csv_of(x=X, y=["once", *YES_NO[1:]]), {}, "Class 'once' has 1 row"),
    ],
)
def test_what_looks_odd_is_taken_and_said(
    api: Api, data: bytes, query: dict[str, Any], says: str
) -> None:
    status, made = post(api, data, target="y", **query)
    assert status == 201
    assert any(says in note for note in made["warnings"]), made["warnings"]


def test_a_class_of_one_row_is_named_again_when_a_study_is_to_stratify(api: Api) -> None:
    post(api, csv_of(x=X, y=["once", *YES_NO[1:]]), target="y")
    status, body = study(api, holdout=0.2)
    assert status == 422
    assert "class 'once' has 1" in body["error"]["message"]
    assert study(api, holdout=0.2, validation={"stratify": False})[0] == 201


@pytest.mark.parametrize(
    ("data", "query", "field"),
    [
        (csv_of(x=X, y=["a"] * ROWS), {"target": "y"}, "target"),
        (csv_of(x=X, y=YES_NO), {}, "target"),
        (csv_of(x=X, y=YES_NO), {"target": "z"}, "target"),
        (csv_of(x=X, y=YES_NO), {"target": "y", "wieght": "x"}, "wieght"),
        (csv_of(x=X, y=YES_NO), {"target": "y", "forecast": "0"}, "forecast"),
        (csv_of(x=X, y=YES_NO), {"target": "y", "forecast": "many"}, "forecast"),
        (csv_of(x=X, y=YES_NO), {"target": "y", "format": "xlsx"}, "format"),
        (csv_of(x=X, z=X, y=YES_NO), {"target": "y", "weight": "x"}, "weight"),
        (b"", {"target": "y"}, "file"),
        (b"PK\x03\x04 a spreadsheet", {"target": "y"}, "file"),
        (b"PAR1....PAR1", {"target": "y"}, "file"),
        (pickle.dumps(X), {"target": "y"}, "file"),
        (npz_of(x=np.array([{}], object), y=[1]), {}, "file"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_its_field(
    api: Api, data: bytes, query: dict[str, Any], field: str
) -> None:
    status, body = post(api, data, **query)
    assert status == 422
    assert body["error"]["fields"][0]["field"] == field


def test_a_hundred_thousand_rows_block_nobody(api: Api) -> None:
    rows = 100_000
    big = csv_of(
        **{f"x{i}": RNG.normal(size=rows).round(4) for i in range(10)},
        town=RNG.choice([f"t{i}" for i in range(50)], rows),
        y=RNG.choice(["a", "b"], rows),
    )
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, api, big, target="y")
        others = 0
        while not answer.done():
            api.get("/datasets/iris")
            others += 1
    assert answer.result()[0] == 201
    assert others >= 3


def test_five_thousand_columns_are_taken(api: Api) -> None:
    values = RNG.normal(size=(ROWS, 4_999)).round(3)
    wide = csv_of(**{f"x{i}": values[:, i] for i in range(4_999)}, y=YES_NO)
    status, made = post(api, wide, target="y")
    assert (status, len(made["contents"]["columns"])) == (201, 4_999)
    assert study(api, holdout=0.2)[0] == 201
