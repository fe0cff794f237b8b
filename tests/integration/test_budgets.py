"""What ends a study beside the number of its trials."""

from __future__ import annotations

from typing import Any

import pytest

from hpo_service import budgets
from hpo_service.tables import Study, Trial
from tests.integration.conftest import TTL, Api


def ended(api: Api) -> tuple[str, str | None]:
    study = api.get("/studies/sphere")
    return study["state"], study["ended_by"]


def test_a_value_that_is_good_enough_ends_the_search(api: Api) -> None:
    api.external(budget={"trials": 9, "target": 0.1})
    first, second = api.leased(), api.leased()
    api.post("/studies/sphere/trials", {"params": {"x": 1.0}})
    api.tell(first, 0.2)
    assert ended(api) == ("running", None)
    api.tell(api.leased(), 0.1)
    # What waits is dropped, what runs ends at its next report, with its value so far.
    assert api.ask() == []
    assert api.report(second, 3, 0.7) == {"action": "prune", "step": 3}
    api.tell(second, state="pruned")
    assert ended(api) == ("finished", "target")
    states = [trial["state"] for trial in api.get("/studies/sphere/trials")["trials"]]
    assert sorted(states) == ["complete", "complete", "pruned"]


def test_a_target_is_reached_in_the_direction_of_the_metric(api: Api) -> None:
    api.external(
        objective={"kind": "external", "directions": ["maximize"]},
        budget={"trials": 9, "target": 0.9},
    )
    api.tell(api.leased(), 0.1)
    assert ended(api) == ("running", None)
    api.tell(api.leased(), 0.95)
    assert ended(api) == ("finished", "target")


def test_a_baseline_that_is_good_enough_ends_no_search() -> None:
    study = Study(spec={"budget": {"trials": 9, "target": 0.1}}, directions=["minimize"])
    good = {"state": "complete", "values": [0.05]}
    assert budgets.is_content(study, Trial(kind="search", **good))
    assert not budgets.is_content(study, Trial(kind="baseline", **good))
    assert not budgets.is_content(study, Trial(kind="confirm", **good))


def test_time_ends_a_study_also_where_nobody_reports(api: Api) -> None:
    api.external(budget={"seconds": 100})
    assert api.get("/studies/sphere")["budget_trials"] is None
    api.clock.advance(500)  # nothing has begun yet
    lease = api.leased()
    api.clock.advance(TTL / 2)
    api.tell(lease, 0.5)
    assert ended(api) == ("running", None)
    assert api.get("/studies/sphere")["spent"]["seconds"] == TTL / 2
    api.clock.advance(100)
    assert api.ask() == []
    assert ended(api) == ("finished", "time")
    study = api.get("/studies/sphere")
    assert study["n_trials"] == 1
    assert study["spent"]["seconds"] == TTL / 2  # of the search, whatever came after


def test_device_seconds_count_all_attempts_side_by_side(api: Api) -> None:
    api.external(budget={"trials": 99, "device_seconds": 2.5 * TTL})
    one, two = api.leased(), api.leased()
    api.clock.advance(TTL / 2)
    api.tell(one, 0.5)
    api.report(two, 1, 0.5)
    api.clock.advance(TTL + 1)  # the second is lost, and goes on in another attempt
    assert api.leased()["number"] == two["number"]
    spent = api.get("/studies/sphere")["spent"]
    assert spent["device_seconds"] == pytest.approx(2 * TTL + 1)
    api.clock.advance(TTL / 2)
    assert api.ask() == []
    assert ended(api) == ("running", "device_seconds")


def test_epochs_count_what_was_reported(api: Api) -> None:
    api.external(budget={"epochs": 5})
    one, two = api.leased(), api.leased()
    for step in (1, 2, 3):
        assert api.report(one, step, 0.5)["action"] == "continue"
    api.tell(one, 0.5)
    assert api.get("/studies/sphere")["spent"]["epochs"] == 3
    api.report(two, 1, 0.5)
    api.report(two, 2, 0.5)
    assert api.ask() == []
    assert ended(api) == ("running", "epochs")
    api.tell(two, 0.4)
    assert ended(api) == ("finished", "epochs")


def test_a_larger_budget_opens_a_study_again(api: Api) -> None:
    api.external(budget={"trials": 9, "target": 0.1})
    api.tell(api.leased(), 0.05)
    assert ended(api) == ("finished", "target")
    api.patch("/studies/sphere", {"budget": {"trials": 9, "target": 0.01}})
    assert ended(api) == ("running", None)
    assert api.get("/studies/sphere")["spec"]["budget"]["target"] == 0.01
    api.tell(api.leased(), 0.01)
    assert ended(api) == ("finished", "target")


@pytest.mark.parametrize(
    ("budget", "directions"),
    [
        ({}, ["minimize"]),
        ({"target": 0.5}, ["minimize"]),
        ({"trials": 0}, ["minimize"]),
        ({"seconds": -1}, ["minimize"]),
        ({"trials": 5, "target": 0.5}, ["minimize", "minimize"]),
        ({"hours": 5}, ["minimize"]),
    ],
)
def test_a_budget_that_says_nothing_is_refused(
    api: Api, budget: dict[str, Any], directions: list[str]
) -> None:
    spec = {
        "name": "sphere",
        "objective": {"kind": "external", "directions": directions},
        "search_space": {"x": {"type": "float", "low": -5, "high": 5}},
        "budget": budget,
    }
    assert api.fails("POST", "/studies", spec)[0] == 422
