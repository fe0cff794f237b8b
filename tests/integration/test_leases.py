"""The lease rules, as workers meet them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import optuna
import pytest

from hpo_service import errors
from tests.integration.conftest import TTL, Api, new_id


def test_a_trial_goes_from_lease_to_best(api: Api) -> None:
    api.external(trials=1)
    lease = api.leased()
    assert api.report(lease, 1, 0.5) == {"action": "continue", "step": 1}
    assert api.tell(lease, 0.25) == {"state": "complete", "values": [0.25]}
    study = api.get("/studies/sphere")
    assert (study["state"], study["ended_by"]) == ("finished", "budget")
    assert study["best"][0]["values"] == [0.25]
    assert study["best"][0]["params"] == lease["params"]


def test_the_same_request_eight_times_at_once_makes_one_attempt(api: Api) -> None:
    api.external(trials=10)
    lease_id, gate = new_id(), threading.Barrier(8)

    def ask(_: int) -> list[Any]:
        gate.wait()
        return api.ask(lease_id)

    with ThreadPoolExecutor(8) as pool:
        answers = [answer for answer in pool.map(ask, range(8)) if answer]
    assert answers
    assert all(answer == answers[0] for answer in answers)
    assert api.get("/studies/sphere")["n_trials"] == 1
    assert api.ask(lease_id) == answers[0]


def test_a_lease_that_was_replaced_is_never_a_new_trial(api: Api) -> None:
    api.external(trials=10)
    old = api.leased()
    api.clock.advance(TTL + 1)
    new = api.leased()
    assert (new["number"], new["attempt"]) == (old["number"], 2)
    assert new["params"] == old["params"]
    body = {"worker": "w", "lease_ids": [old["lease_id"]], "study": "sphere"}
    assert api.fails("POST", "/leases", body | {"objectives": ["external"]}) == (409, "lease_lost")
    assert api.get("/studies/sphere")["n_trials"] == 1


def test_a_stale_worker_changes_nothing(api: Api) -> None:
    api.external()
    old = api.leased()
    api.clock.advance(TTL + 1)
    new = api.leased()
    assert api.report(old, 1, 0.1)["action"] == "lost"
    told = {"state": "complete", "values": [0.1]}
    assert api.fails("POST", f"/leases/{old['lease_id']}/tell", told) == (409, "lease_lost")
    assert api.fails("POST", f"/leases/{old['lease_id']}/release") == (409, "lease_lost")
    beat = api.put("/workers/w", {"lease_ids": [old["lease_id"], new["lease_id"]]})
    assert beat["leases"] == {old["lease_id"]: "lost", new["lease_id"]: "held"}
    assert api.trial(0)["state"] == "running"
    assert api.get("/studies/sphere/trials/0/reports")["points"] == []


@pytest.mark.parametrize("how", ["report", "beat"])
def test_an_expired_lease_that_nobody_claimed_is_renewed_by_its_holder(api: Api, how: str) -> None:
    api.external(trials=2)
    lease = api.leased()
    api.clock.advance(TTL * 3)
    if how == "report":
        assert api.report(lease, 1, 0.5)["action"] == "continue"
    else:
        beat = api.put("/workers/w", {"lease_ids": [lease["lease_id"]]})
        assert beat["leases"][lease["lease_id"]] == "held"
    assert api.leased()["number"] == 1
    assert api.tell(lease, 0.5)["state"] == "complete"


def test_three_lost_attempts_are_poison(api: Api) -> None:
    api.external(trials=1)
    for attempt in (1, 2, 3):
        assert api.leased()["attempt"] == attempt
        api.clock.advance(TTL + 1)
    assert api.ask() == []
    trial = api.trial(0)
    assert (trial["state"], trial["error"]["reason"], trial["lost"]) == ("fail", "poison", 3)
    assert api.get("/studies/sphere")["state"] == "finished"


def test_a_released_trial_waits_again_and_is_not_lost(api: Api) -> None:
    api.external(trials=1)
    lease = api.leased()
    for _ in range(2):
        assert api.post(f"/leases/{lease['lease_id']}/release")["state"] == "waiting"
    again = api.leased()
    assert (again["number"], again["attempt"], again["params"]) == (0, 2, lease["params"])
    assert api.trial(0)["lost"] == 0


def test_a_tell_is_repeatable_and_final(api: Api) -> None:
    api.external()
    lease = api.leased()
    assert api.tell(lease, 0.5) == api.tell(lease, 0.5)
    other = {"state": "complete", "values": [0.4]}
    assert api.fails("POST", f"/leases/{lease['lease_id']}/tell", other) == (409, "finished")
    assert api.trial(0)["values"] == [0.5]


def test_a_report_is_repeatable_and_fixed(api: Api) -> None:
    api.external()
    lease = api.leased()
    assert api.report(lease, 1, 0.5) == api.report(lease, 1, 0.5)
    point = {"lease_id": lease["lease_id"], "step": 1, "values": [0.6]}
    assert api.fails("POST", "/reports", {"reports": [point]}) == (409, "report_conflict")
    curve = api.get("/studies/sphere/trials/0/reports")["points"]
    assert [(p["step"], p["values"]) for p in curve] == [(1, [0.5])]


def test_each_fold_is_shown_with_what_it_scored_and_what_it_trained_on(api: Api) -> None:
    api.external()
    lease = api.leased()
    point = {"lease_id": lease["lease_id"], "step": 1, "values": [0.5]}
    point |= {"folds": [[0.4, 0.6]], "train_folds": [0.9, None]}
    for _ in range(2):
        api.post("/reports", {"reports": [point]})
    (shown,) = api.get("/studies/sphere/trials/0/reports")["points"]
    assert (shown["folds"], shown["train_folds"]) == ([[0.4, 0.6]], [0.9, None])
    other = point | {"train_folds": [0.9, 0.8]}
    assert api.fails("POST", "/reports", {"reports": [other]}) == (409, "report_conflict")


def test_a_value_that_is_not_finite_fails_the_trial_and_marks_the_curve(api: Api) -> None:
    api.external()
    lease = api.leased()
    assert api.report(lease, 1, None)["action"] == "continue"
    api.post(f"/leases/{lease['lease_id']}/tell", {"state": "complete", "values": [None]})
    trial = api.trial(0)
    assert (trial["state"], trial["error"]["reason"]) == ("fail", "non_finite")
    assert api.get("/studies/sphere/trials/0/reports")["points"][0]["values"] == [None]


def test_a_cancelled_trial_ends_at_once(api: Api) -> None:
    api.external()
    lease = api.leased()
    assert api.post("/studies/sphere/trials/0/cancel")["state"] == "cancelled"
    assert api.report(lease, 1, 0.5)["action"] == "stop"
    assert api.put("/workers/w", {"lease_ids": [lease["lease_id"]]})["leases"] == {
        lease["lease_id"]: "stop"
    }
    told = {"state": "complete", "values": [0.1]}
    assert api.fails("POST", f"/leases/{lease['lease_id']}/tell", told) == (409, "cancelled")


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_budget_is_exact_whatever_the_number_of_workers(api: Api, sampler: str) -> None:
    api.external(trials=20, sampler={"name": sampler})

    def work(_: int) -> None:
        while api.get("/studies/sphere")["state"] != "finished":
            for lease in api.ask(new_id(), new_id()):
                api.tell(lease, lease["params"]["x"] ** 2)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    trials = api.get("/studies/sphere/trials", limit=500)["trials"]
    assert [t["number"] for t in trials] == list(range(20))
    assert {t["state"] for t in trials} == {"complete"}
    assert all(t["attempts"] == 1 for t in trials)


def test_a_manual_trial_comes_first_and_counts_in_the_budget(api: Api) -> None:
    api.external(trials=2)
    assert api.post("/studies/sphere/trials", {"params": {"x": 1.5}})["number"] == 0
    assert api.leased()["params"] == {"x": 1.5}
    api.post("/studies/sphere/trials", {"params": {}})
    assert -5 <= api.leased()["params"]["x"] <= 5
    spent = api.fails("POST", "/studies/sphere/trials", {"params": {"x": 1.0}})
    assert spent == (409, "budget_spent")


def test_a_paused_study_hands_out_nothing_and_a_stopped_one_ends(api: Api) -> None:
    api.external()
    lease = api.leased()
    api.patch("/studies/sphere", {"state": "paused"})
    assert api.ask() == []
    assert api.tell(lease, 1.0)["state"] == "complete"
    api.patch("/studies/sphere", {"state": "running"})
    running = api.leased()
    study = api.patch("/studies/sphere", {"state": "finished"})
    assert (study["state"], study["ended_by"]) == ("finished", "user")
    assert api.report(running, 1, 1.0)["action"] == "stop"
    assert study["counts"]["cancelled"] == 1


def test_a_larger_budget_reopens_a_study(api: Api) -> None:
    api.external(trials=1)
    api.tell(api.leased(), 1.0)
    assert api.ask() == []
    assert api.patch("/studies/sphere", {"budget": {"trials": 2}})["state"] == "running"
    assert api.leased()["number"] == 1


def test_after_a_freeze_no_healthy_lease_is_taken(api: Api) -> None:
    api.external()
    lease = api.leased()
    api.clock.advance(TTL * 3)
    api.service.pulse._freezes += 1  # what the thread does when it wakes late
    assert api.leased()["number"] == 1
    assert api.report(lease, 1, 0.5)["action"] == "continue"
    api.clock.advance(TTL + 1)
    assert api.leased()["number"] == 0


def test_a_grid_ends_with_its_space_each_point_once(api: Api) -> None:
    api.external(trials=30, sampler={"name": "grid", "points": {"x": 5}})
    seen = []
    while api.get("/studies/sphere")["state"] != "finished":
        for lease in api.ask():
            seen.append(lease["params"]["x"])
            api.tell(lease, 0.0)
    assert sorted(seen) == [-5.0, -2.5, 0.0, 2.5, 5.0]
    assert api.get("/studies/sphere")["ended_by"] == "space"


def test_deleting_a_study_leaves_its_worker_with_a_lost_lease(api: Api) -> None:
    api.external()
    lease = api.leased()
    assert api.http.delete("/v1/studies/sphere").status_code == 204
    assert api.report(lease, 1, 0.5)["action"] == "lost"
    assert api.external()["id"] > lease["study_id"]


def test_external_trials_are_not_handed_to_just_any_caller(api: Api) -> None:
    api.external()
    body = {"worker": "w", "lease_ids": [new_id()]}
    assert api.post("/leases", body)["leases"] == []
    assert api.fails("POST", "/leases", body | {"objectives": ["external"]})[0] == 422


def test_a_study_that_an_optuna_client_brought_to_its_end_ends(api: Api) -> None:
    api.external(trials=1)
    study = optuna.load_study(study_name="sphere", storage=api.service.storage)
    study.tell(study.ask({"x": optuna.distributions.FloatDistribution(-5, 5)}), 1.0)
    assert api.ask() == []
    assert api.get("/studies/sphere")["state"] == "finished"


def own_function(api: Api, study: str, **objective: Any) -> None:
    """A study of a user's own function `m:f`."""
    given = {"kind": "custom", "name": "m:f", "directions": ["maximize"]} | objective
    api.external(study, objective=given)


def leased_for(api: Api, *objectives: str) -> list[Any]:
    """What a worker that runs these gets, of whatever study."""
    body = {"worker": "w", "lease_ids": [new_id()], "objectives": list(objectives)}
    return list(api.post("/leases", body)["leases"])


def test_a_function_of_ones_own_goes_to_workers_that_have_it(api: Api) -> None:
    own_function(api, "mine", params={"depth": 3})
    own_function(api, "theirs", name="m:other")
    api.external("outside")
    train = {"kind": "train", "model": "logistic_regression", "dataset": "iris", "baselines": False}
    spec = {"name": "iris", "objective": train, "budget": {"trials": 3}}
    api.post("/studies", spec)
    for _ in range(2):
        assert [each["study"] for each in leased_for(api, "train")] == ["iris"]
        assert [each["study"] for each in leased_for(api, "custom:m:f")] == ["mine"]
        assert [each["study"] for each in leased_for(api, "custom:m:other")] == ["theirs"]
    for nobody in ("custom", "custom:", "m:f", "custom:m"):
        assert leased_for(api, nobody) == []
    # Asked for both, it serves both: the one with fewer running trials.
    for _ in range(2):
        leased_for(api, "train")
    (lease,) = leased_for(api, "train", "custom:m:f")
    assert (lease["study"], lease["data"], lease["model"]) == ("mine", None, None)
    assert lease["params"]["depth"] == 3
    assert lease["objective"]["name"] == "m:f"


def test_a_study_of_ones_own_function_ends_with_its_best_trial(api: Api) -> None:
    own_function(api, "mine", dataset="iris")
    api.patch("/studies/mine", {"budget": {"trials": 1}})
    (lease,) = leased_for(api, "custom:m:f")
    assert len(lease["data"]) == 64
    assert api.report(lease, 1, 0.25) == {"action": "continue", "step": 1}
    api.tell(lease, 0.5)
    study = api.get("/studies/mine")
    assert (study["state"], study["best"][0]["values"]) == ("finished", [0.5])
    final = api.get("/studies/mine/final")
    assert (final["state"], final["winner"]["values"], final["baselines"]) == ("none", [0.5], [])


def test_a_worker_that_names_a_study_it_cannot_run_is_told_what_could(api: Api) -> None:
    own_function(api, "mine")
    own_function(api, "labelled", name="boosting")
    api.external("outside")
    for study, needed in (
        ("mine", "custom:m:f: start `hpo worker --objective m:f`"),
        ("labelled", "custom:boosting: start `hpo worker --objective boosting=MODULE:FUNCTION`"),
        ("outside", "external: it is for programs that call this API themselves"),
    ):
        body = {"worker": "w", "lease_ids": [new_id()], "study": study}
        answer = api.http.post("/v1/leases", json=body)
        assert answer.status_code == 422
        (field,) = answer.json()["error"]["fields"]
        assert field == {"field": "objectives", "message": f"study {study!r} needs {needed}"}


def test_optuna_does_not_write_to_a_study_of_ones_own_function(api: Api) -> None:
    own_function(api, "mine")
    study = optuna.load_study(study_name="mine", storage=api.service.storage)
    with pytest.raises(errors.WrongState, match="run by workers"):
        study.ask()
