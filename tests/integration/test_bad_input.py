"""Bad input gets a 4xx that names the field; nothing is stored, and the server lives on."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.integration.conftest import Api, new_id

TRAIN: dict[str, Any] = {
    "name": "bad",
    "objective": {"kind": "train", "model": "mlp", "dataset": "iris"},
    "search_space": {"learning_rate": {"type": "float", "low": 0.001, "high": 0.1, "log": True}},
    "budget": {"trials": 5},
}
FLOAT = {"type": "float", "low": 0.0, "high": 1.0}
OUTER = {"folds": 5, "fold": 0}
RATE = {"learning_rate": TRAIN["search_space"]["learning_rate"]}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The spec above with one thing changed."""
    spec = copy.deepcopy(TRAIN)
    at, keys = spec, path.split(".")
    for key in keys[:-1]:
        at = at.setdefault(key, {})
    at[keys[-1]] = value
    return spec


SPECS: list[tuple[dict[str, Any], str]] = [
    (changed("objective.dataset", "no-such"), "objective.dataset"),
    (changed("objective.model", "no-such"), "objective.model"),
    (changed("objective.model", "ridge"), "objective.model"),
    (changed("objective.metrics", ["r2"]), "objective.metrics.0"),
    (changed("objective.metrics", ["no-such"]), "objective.metrics.0"),
    (changed("objective.metrics", ["accuracy", "accuracy"]), "objective.metrics"),
    (changed("objective.record", ["rmse"]), "objective.record.0"),
    (changed("objective.metrics", []), "objective.metrics"),
    (changed("objective.params", {"no_such": 1}), "objective.params.no_such"),
    (changed("objective.params", {"epochs": 0}), "objective.params.epochs"),
    (changed("objective.params", {"epochs": "5"}), "objective.params.epochs"),
    (changed("objective.params", {"epochs": True}), "objective.params.epochs"),
    (changed("objective.params", {"learning_rate": 0.1}), "search_space.learning_rate"),
    (changed("objective.params", {"dropout@x": 0.1}), "objective.params.dropout@x"),
    (
        changed("search_space", {"learning_rate@a": RATE["learning_rate"], **RATE}),
        "search_space.learning_rate",
    ),
    (changed("objective.holdout", 0.9), "objective.holdout"),
    (changed("objective.holdout", -0.1), "objective.holdout"),
    (changed("objective.outer", {"folds": 5, "fold": 5}), "objective.outer.fold"),
    (changed("objective.outer", {"folds": 2, "fold": 0}), "objective.outer.folds"),
    (
        changed("objective", TRAIN["objective"] | {"outer": OUTER, "holdout": 0.2}),
        "objective.holdout",
    ),
    (changed("objective.validation", {"folds": 1}), "objective.validation.folds"),
    (changed("objective.validation", {"folds": 60}), "objective.validation.folds"),
    (changed("objective.validation", {"method": "magic"}), "objective.validation.method"),
    (changed("objective.validation", {"method": "time_series"}), "objective.validation.method"),
    (
        changed("objective.validation", {"method": "hold_out", "share": 1}),
        "objective.validation.share",
    ),
    (
        changed("objective.validation", {"method": "leave_one_out", "repeats": 2}),
        "objective.validation.repeats",
    ),
    (changed("objective.metrics", ["latency"]), "objective.metrics.0"),
    (changed("search_space", {}), "search_space"),
    (changed("search_space", {"no_such": FLOAT}), "search_space.no_such"),
    (changed("search_space.learning_rate.low", 1.0), "search_space.learning_rate"),
    (changed("search_space.learning_rate.low", 0.0), "search_space.learning_rate"),
    (changed("search_space.learning_rate.low", -1.0), "search_space.learning_rate"),
    (changed("search_space.learning_rate.step", 0.1), "search_space.learning_rate"),
    (changed("search_space.learning_rate.high", 1e6), "search_space.learning_rate.high"),
    (changed("search_space.learning_rate.type", "real"), "search_space.learning_rate"),
    (changed("search_space.momentum", FLOAT | {"step": 0}), "search_space.momentum.step"),
    (
        changed("search_space.activation", {"type": "categorical", "choices": ["relu", "relu"]}),
        "search_space.activation.choices",
    ),
    (
        changed("search_space.activation", {"type": "categorical", "choices": ["magic"]}),
        "search_space.activation.choices.0",
    ),
    (
        changed("search_space.activation", {"type": "categorical", "choices": []}),
        "search_space.activation.choices",
    ),
    (
        changed("search_space.momentum", FLOAT | {"high": 0.9, "when": {"no_such": [1]}}),
        "search_space.momentum.when.no_such",
    ),
    (
        changed("search_space.momentum", FLOAT | {"high": 0.9, "when": {"optimizer": ["sgd"]}}),
        "search_space.momentum.when.optimizer",
    ),
    (
        changed("search_space.hidden_layers", {"type": "int", "low": 1, "high": 2**63}),
        "search_space.hidden_layers.high",
    ),
    (changed("sampler", {"name": "no-such"}), "sampler.name"),
    (changed("sampler", {"name": "grid"}), "search_space.learning_rate"),
    (changed("sampler", {"name": "grid", "points": {"learning_rate": 10**12}}), "sampler.points"),
    (changed("sampler", {"name": "grid", "points": {"no_such": 3}}), "sampler.points"),
    (changed("sampler", {"name": "tpe", "no_such": 3}), "sampler.no_such"),
    (changed("pruner", {"name": "no-such"}), "pruner.name"),
    (changed("pruner", {"name": "asha", "min_resource": 0}), "pruner.min_resource"),
    (changed("budget", {"trials": 0}), "budget.trials"),
    (changed("budget", {"trials": 1.5}), "budget.trials"),
    (changed("budget", {"trials": True}), "budget.trials"),
    (changed("budget", {"trials": 2**63}), "budget.trials"),
    (changed("budget", {}), "budget"),
    (changed("seed", -1), "seed"),
    (changed("seed", 2**63), "seed"),
    (changed("is_admin", True), "is_admin"),
    (changed("name", ""), "name"),
    (changed("name", "x" * 101), "name"),
    (changed("name", "a\nb"), "name"),
    (changed("name", "a\x00b"), "name"),
    (changed("name", "123"), "name"),
    (changed("name", "a/b"), "name"),
    (changed("name", ".."), "name"),
    (changed("name", 5), "name"),
]


@pytest.mark.parametrize(
    ("spec", "field"), SPECS, ids=[f"{i}-{f}" for i, (_, f) in enumerate(SPECS)]
)
def test_a_bad_study_is_refused_by_field(api: Api, spec: dict[str, Any], field: str) -> None:
    answer = api.http.post("/v1/studies", json=spec)
    assert answer.status_code == 422, answer.text
    fields = [f["field"] for f in answer.json()["error"]["fields"]]
    assert any(f.startswith(field) for f in fields), fields
    assert all(f["message"] for f in answer.json()["error"]["fields"])
    assert api.get("/studies")["studies"] == []


RAW: list[tuple[bytes, int]] = [
    (b'{"name": NaN}', 422),
    (b'{"name": "a", "budget": {"trials": Infinity}}', 422),
    (b'{"name": "a", "budget": {"trials": 1e999}}', 422),
    (b'{"name": "\\ud800"}', 422),
    (b'{"name": "\\u0000"}', 422),
    (b'{"\\ud800": 1}', 422),
    (b"", 422),
    (b"{", 400),
    (b"\xff\xfe", 400),
    (b"[1, 2]", 422),
    (b"null", 422),
    (b'"text"', 422),
    (b"[" * 100_000, 400),
    (b'{"seed": ' + b"9" * 5000 + b"}", 400),
]


@pytest.mark.parametrize(("body", "status"), RAW, ids=[str(i) for i in range(len(RAW))])
def test_a_body_that_is_not_what_it_claims(api: Api, body: bytes, status: int) -> None:
    answer = api.http.post(
        "/v1/studies", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"]


@pytest.mark.parametrize(
    ("headers", "size", "status"),
    [
        ({"Content-Type": "text/plain"}, 10, 415),
        ({"Content-Type": ""}, 10, 415),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, 10, 415),
        ({"Content-Type": "application/json"}, 2 << 20, 413),
    ],
)
def test_the_header_is_judged_before_the_body(
    api: Api, headers: dict[str, str], size: int, status: int
) -> None:
    answer = api.http.post("/v1/studies", content=b" " * size, headers=headers)
    assert answer.status_code == status


def test_a_chunked_body_is_counted_as_it_comes(api: Api) -> None:
    chunks = (b" " * 65536 for _ in range(64))
    answer = api.http.post(
        "/v1/studies", content=chunks, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "/studies/none",
        "/studies/99999999999999999999999",
        "/studies/%00",
        "/studies/%ED%A0%80",
        "/studies/none/trials",
        "/studies/none/final",
        "/blobs/" + "0" * 64,
        "/datasets/none",
        "/datasets/..%2f..%2fetc%2fpasswd",
        "/workers/nobody",
        "/no/such/address",
    ],
)
def test_what_is_not_there_is_a_404(api: Api, path: str) -> None:
    assert api.http.get(f"/v1{path}").status_code == 404


@pytest.mark.parametrize(
    "query",
    ["sort=id;DROP TABLE trials", "order=asc--", "limit=0", "limit=501", "after=-1", "state=x"],
)
def test_a_listing_takes_only_what_it_knows(api: Api, query: str) -> None:
    api.external()
    assert api.http.get(f"/v1/studies/sphere/trials?{query}").status_code == 422


def test_a_number_beyond_63_bits_is_refused_everywhere(api: Api) -> None:
    api.external()
    for path in (f"trials/{2**63}", f"trials?after={2**63}", f"trials/0/reports?attempt={2**63}"):
        assert api.http.get(f"/v1/studies/sphere/{path}").status_code in (404, 422)


@pytest.mark.parametrize(
    "change",
    [
        {"step": 0},
        {"step": -1},
        {"step": 2**31},
        {"step": 1.5},
        {"values": []},
        {"values": [1.0, 2.0]},
        {"values": ["NaN"]},
        {"metrics": {"x" * 200: 1.0}},
        {"train_folds": [0.5, 0.6]},
        {"train_folds": [0.5], "folds": [[0.5, 0.6]]},
        {"lease_id": "../x"},
    ],
)
def test_a_bad_report_is_refused(api: Api, change: dict[str, Any]) -> None:
    api.external()
    point = {"lease_id": api.leased()["lease_id"], "step": 1, "values": [0.5]} | change
    assert api.fails("POST", "/reports", {"reports": [point]})[0] == 422
    assert api.get("/studies/sphere/trials/0/reports")["points"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"state": "complete"},
        {"state": "complete", "values": []},
        {"state": "complete", "values": [1.0, 2.0]},
        {"state": "fail"},
        {"state": "running", "values": [1.0]},
        {"state": "fail", "error": {"reason": "Not A Word"}},
    ],
)
def test_a_bad_tell_is_refused_and_the_lease_lives_on(api: Api, body: dict[str, Any]) -> None:
    api.external()
    lease = api.leased()
    assert api.fails("POST", f"/leases/{lease['lease_id']}/tell", body)[0] == 422
    assert api.tell(lease, 0.5)["state"] == "complete"


@pytest.mark.parametrize(
    "change",
    [
        {"lease_ids": []},
        {"lease_ids": ["x"]},
        {"lease_ids": ["1B4E28BA-2FA1-4D3B-A3F5-EF19B5A7633B"]},
        {"lease_ids": [new_id()] * 2},
        {"lease_ids": [new_id() for _ in range(65)]},
        {"worker": "a b"},
        {"worker": ""},
        {"objectives": []},
        {"study": True},
    ],
)
def test_a_bad_lease_request_is_refused(api: Api, change: dict[str, Any]) -> None:
    body = {"worker": "w", "lease_ids": [new_id()]} | change
    assert api.fails("POST", "/leases", body)[0] == 422


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"y": 1.0}, "params.y"),
        ({"x": 6.0}, "params.x"),
        ({"x": "1"}, "params.x"),
        ({"x": None}, "params.x"),
        ({"x": [1.0]}, "params.x"),
    ],
)
def test_a_manual_trial_must_lie_in_the_space(api: Api, params: dict[str, Any], field: str) -> None:
    api.external()
    answer = api.http.post("/v1/studies/sphere/trials", json={"params": params})
    assert answer.status_code == 422
    assert answer.json()["error"]["fields"][0]["field"].startswith(field)
    assert api.get("/studies/sphere")["n_trials"] == 0


@pytest.mark.parametrize(
    "name", ["../x", "..%2fx", "%252e%252e%252f", "..", "a b", "x" * 101, "a%00"]
)
def test_an_artifact_name_is_a_label_and_never_a_path(api: Api, name: str) -> None:
    api.external()
    lease = api.leased()
    answer = api.http.put(f"/v1/leases/{lease['lease_id']}/artifacts/{name}", content=b"x")
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize(
    "name",
    ['"><img onerror=alert(1)>', "javascript:alert(1)", "=cmd()", "emoji-\U0001f600", "\u202ex"],
)
def test_a_name_is_text_whatever_it_says(api: Api, name: str) -> None:
    study = api.external(name=name)
    assert study["name"] == name
    assert api.get(f"/studies/{study['id']}")["name"] == name


def test_csv_export_holds_no_formula(api: Api) -> None:
    api.external(search_space={"f": {"type": "categorical", "choices": ["=1+1", "@x"]}})
    api.tell(api.leased(), 1.0)
    text = api.http.get("/v1/studies/sphere/trials.csv").text
    assert "'=1+1" in text or "'@x" in text


def test_a_name_is_given_once(api: Api) -> None:
    api.external()
    body = json.loads(json.dumps(TRAIN)) | {"name": "sphere"}
    assert api.fails("POST", "/studies", body) == (409, "name_taken")
