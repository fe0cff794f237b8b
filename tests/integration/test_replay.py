"""Trials that are leased together: alike where asked for, and proposed again as they were."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.conftest import Api, new_id

SHAPE = ("hidden_layers", "hidden_units", "batch_size")


def networks(api: Api, sampler: str) -> None:
    """A study of a family's default space."""
    objective = {"kind": "train", "model": "mlp", "dataset": "wine", "baselines": False}
    spec = {"name": "mlp", "objective": objective, "budget": {"trials": 40}, "first": []}
    api.post("/studies", spec | {"sampler": {"name": sampler}})


def leased(api: Api, count: int, **more: Any) -> list[Any]:
    body = {"worker": "w", "lease_ids": [new_id() for _ in range(count)], "study": "mlp"}
    return list(api.post("/leases", body | more)["leases"])


def shapes(leases: list[Any]) -> set[tuple[Any, ...]]:
    return {tuple(lease["params"][name] for name in SHAPE) for lease in leases}


def rest(leases: list[Any]) -> set[tuple[Any, ...]]:
    return {tuple(v for k, v in lease["params"].items() if k not in SHAPE) for lease in leases}


@pytest.mark.parametrize("sampler", ["random", "sobol", "tpe", "gp"])
def test_a_pack_is_of_one_shape_where_that_is_asked_for(api: Api, sampler: str) -> None:
    networks(api, sampler)
    for _ in range(3):
        leases = leased(api, 6, alike=6)
        assert len(leases) == 6
        assert len(shapes(leases)) == 1
        assert len(rest(leases)) == 6
        for number, lease in enumerate(leases):
            api.tell(lease, 0.5 + number / 100, epoch=1)
    halves = leased(api, 6, alike=3)
    assert [len(shapes(halves[:3])), len(shapes(halves[3:])), len(rest(halves))] == [1, 1, 6]
    assert len(shapes(leased(api, 6))) > 1
    found = api.get("/studies/mlp/replay", limit=30)
    assert [trial["outcome"] for trial in found["trials"]] == ["same"] * 30


def test_the_replay_of_a_study_comes_in_pages(api: Api) -> None:
    api.external(trials=5)
    for _ in range(5):
        api.tell(api.leased(), 0.5)
    first = api.get("/studies/sphere/replay", limit=3)
    assert [trial["number"] for trial in first["trials"]] == [0, 1, 2]
    assert first["next"] == 3
    second = api.get("/studies/sphere/replay", after=3)
    assert [trial["outcome"] for trial in second["trials"]] == ["same"] * 2
    assert second["next"] is None
    assert api.get("/studies/sphere/replay", after=99)["trials"] == []


def test_a_setting_of_ones_own_was_given(api: Api) -> None:
    api.external()
    api.post("/studies/sphere/trials", {"params": {"x": 1.0}})
    api.tell(api.leased(), 0.5)
    (trial,) = api.get("/studies/sphere/replay")["trials"]
    assert (trial["outcome"], trial["params"], trial["replayed"]) == ("given", {"x": 1.0}, None)
