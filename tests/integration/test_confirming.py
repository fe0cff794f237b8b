"""The end of a study over HTTP: fresh folds, then the final lease, and what it alone may read."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.integration.conftest import Api

TRIALS = 30


@pytest.fixture
def spec() -> dict[str, Any]:
    return {
        "name": "ridges",
        "objective": {
            "kind": "train",
            "model": "ridge",
            "dataset": "diabetes",
            "holdout": 0.2,
            "baselines": False,
        },
        "sampler": {"name": "random"},
        "budget": {"trials": TRIALS},
    }


def lease(api: Api) -> dict[str, Any] | None:
    found = api.post("/leases", {"worker": "w", "lease_ids": [str(uuid.uuid4())]})["leases"]
    return found[0] if found else None


def keep(api: Api, lease: dict[str, Any], name: str, content: bytes) -> None:
    path = f"/v1/leases/{lease['lease_id']}/artifacts/{name}"
    assert api.http.put(path, content=content).status_code == 201


def end(api: Api, lease: dict[str, Any], value: float) -> None:
    """Report, keep predictions and tell, as a worker does."""
    folds = [[value - 0.01, value, value + 0.01]]
    report = {"lease_id": lease["lease_id"], "step": 1, "values": [value], "folds": folds}
    api.post("/reports", {"reports": [report]})
    keep(api, lease, "out_of_fold", lease["lease_id"].encode())
    if lease["objective"]["serve"] == "folds" and lease["kind"] == "search":
        keep(api, lease, "fold_networks", f"networks {lease['number']}".encode())
    told = {"state": "complete", "values": [value], "epoch": 1}
    api.post(f"/leases/{lease['lease_id']}/tell", told)


def search(api: Api, spec: dict[str, Any]) -> None:
    """The study up to the end of its search: trial n has the value n / 100."""
    api.post("/studies", spec)
    for _ in range(TRIALS):
        held = lease(api)
        assert held is not None
        assert held["kind"] == "search"
        end(api, held, held["number"] / 100)


def test_the_winner_comes_from_fresh_folds_and_the_final_lease_sees_it_all(
    api: Api, spec: dict[str, Any]
) -> None:
    search(api, spec)
    assert api.get("/studies/ridges")["state"] == "finishing"
    fresh = []
    while (held := lease(api)) is not None and held["kind"] == "confirm":
        fresh.append(held)
    assert held is None, "the final row waits for all that is confirmed"
    assert [each["epoch"] for each in fresh] == [1, 1, 1]
    assert {each["objective"]["validation"]["repeats"] for each in fresh} == {2}
    assert len({each["study_seed"] for each in fresh} - {0}) == 1
    alphas = {t["number"]: t["params"] for t in api.get("/studies/ridges/trials")["trials"]}
    assert [each["params"] for each in fresh] == [alphas[29], alphas[0], alphas[28]]
    for each, value in zip(fresh, (0.3, 0.2, 0.4), strict=True):
        end(api, each, value)
    final = lease(api)
    assert final is not None
    assert (final["kind"], final["refits"][0]["number"]) == ("final", 28)
    kinds = [said["kind"] for said in final["predictions"]]
    assert kinds == ["search"] * TRIALS + ["confirm"] * 3
    assert [said["number"] for said in final["predictions"][-3:]] == [29, 0, 28]
    assert final["predictions"][-1]["folds"] == [pytest.approx([0.39, 0.4, 0.41])]


def test_nobody_else_reads_predictions(api: Api, spec: dict[str, Any]) -> None:
    search(api, spec)
    fresh = [held for _ in range(3) if (held := lease(api))]
    for each in fresh:
        end(api, each, 0.5)
    final = lease(api)
    assert final is not None
    sha256 = final["predictions"][0]["sha256"]
    path = f"/v1/blobs/{sha256}"
    assert api.http.get(path).status_code == 403
    other = {"lease_id": fresh[0]["lease_id"]}
    assert api.http.get(path, params=other).status_code == 403
    found = api.http.get(path, params={"lease_id": final["lease_id"]})
    assert found.status_code == 200
    assert len(found.content) == 36


def finals(api: Api, spec: dict[str, Any]) -> dict[str, Any]:
    """The final lease of a study whose trial 28 does best on fresh folds."""
    search(api, spec)
    for value in (0.3, 0.2, 0.4):
        held = lease(api)
        assert held is not None
        end(api, held, value)
    final = lease(api)
    assert final is not None
    return final


def test_the_final_lease_offers_the_best_trials_as_members(api: Api, spec: dict[str, Any]) -> None:
    final = finals(api, spec)
    assert [each["number"] for each in final["members"]] == list(range(29, 19, -1))
    of_winner = next(each for each in final["members"] if each["number"] == 28)
    assert of_winner | {"name": "winner"} == final["refits"][0]
    assert final["networks"] is None


def test_the_models_of_the_winners_folds_are_there_until_the_study_has_ended(
    api: Api, spec: dict[str, Any]
) -> None:
    spec["objective"]["serve"] = "folds"
    final = finals(api, spec)
    path, holder = f"/v1/blobs/{final['networks']}", {"lease_id": final["lease_id"]}
    assert api.http.get(path).status_code == 403
    assert api.http.get(path, params=holder).content == b"networks 28"
    keep(api, final, "model", b"networks 28")
    served = {"kind": "folds", "reason": "the study asks for it"}
    judged = {"values": [0.4], "judged": {"served": served}}
    api.post(f"/leases/{final['lease_id']}/tell", {"state": "complete"} | judged)
    result = api.get("/studies/ridges/final")
    assert result["served"] == served | {"held_out": []}
    assert api.http.get("/v1/studies/ridges/model").content == b"networks 28"
    left = [file.read_bytes() for file in api.service.blobs.folder.rglob("*") if file.is_file()]
    assert [content for content in left if content.startswith(b"networks")] == [b"networks 28"]


def test_what_a_study_leaves_comes_with_its_end(api: Api, spec: dict[str, Any]) -> None:
    api.post("/studies", spec)
    assert api.get("/studies/ridges/artifacts")["artifacts"] == []
    answer = api.http.get("/v1/studies/ridges/artifacts/model")
    assert answer.status_code == 404
    assert "no model yet" in answer.json()["error"]["message"]
