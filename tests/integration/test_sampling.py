"""A study says which sampler was picked for it, and why."""

from __future__ import annotations

from tests.integration.conftest import Api


def test_a_study_says_what_proposes_its_trials_and_why(api: Api) -> None:
    api.external(sampler={"name": "auto"}, trials=20)
    (pick,) = api.get("/studies/sphere")["sampling"]
    assert (pick["first"], pick["samplers"]) == (0, ["gp"])
    assert "1 parameter" in pick["reason"]
    api.external("long", sampler={"name": "auto"}, trials=2000)
    picked = [p["samplers"] for p in api.get("/studies/long")["sampling"]]
    assert picked == [["gp"], ["gp", "tpe"], ["tpe"]]
    two = {"kind": "external", "directions": ["minimize", "maximize"]}
    api.external("two", sampler={"name": "auto"}, objective=two)
    assert [p["samplers"] for p in api.get("/studies/two")["sampling"]] == [["tpe"]]


def test_what_was_named_was_not_picked(api: Api) -> None:
    api.external(sampler={"name": "random"})
    assert api.get("/studies/sphere")["sampling"] == []
    spec = {"name": "default", "objective": {"kind": "external"}, "budget": {"trials": 3}}
    made = api.post(
        "/studies", spec | {"search_space": {"x": {"type": "int", "low": 1, "high": 9}}}
    )
    assert made["spec"]["sampler"] == {"name": "auto"}
