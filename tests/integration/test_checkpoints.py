"""Where the next attempt of a trial goes on, and what becomes of the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import TTL, Api, new_id, ok


@pytest.fixture
def stored(api: Api) -> Api:
    """A study whose files are looked at."""
    api.external(trials=3)
    return api


def keep(api: Api, lease: Any, step: int | None, data: bytes = b"state") -> Any:
    query = {} if step is None else {"step": step}
    path = f"/v1/leases/{lease['lease_id']}/artifacts/checkpoint"
    return ok(api.http.put(path, content=data, params=query))


def kept(api: Api, lease: Any) -> bytes | None:
    answer = api.http.get(f"/v1/leases/{lease['lease_id']}/artifacts/checkpoint")
    return None if answer.status_code == 404 else answer.content


def run_to(api: Api, lease: Any, *steps: int) -> None:
    for step in steps:
        assert api.report(lease, step, step / 10)["action"] == "continue"


def lost(api: Api) -> Any:
    """The next lease, after the last one has run out."""
    api.clock.advance(TTL + 1)
    return api.leased()


def released(api: Api, lease: Any) -> Any:
    api.post(f"/leases/{lease['lease_id']}/release")
    return api.leased()


def curve(api: Api, number: int = 0) -> list[int]:
    return [p["step"] for p in api.get(f"/studies/sphere/trials/{number}/reports")["points"]]


def blobs(api: Api) -> list[bytes]:
    files: list[Path] = [p for p in api.service.blobs.folder.rglob("*") if p.is_file()]
    return sorted(path.read_bytes() for path in files)


@pytest.mark.parametrize("how", ["lost", "released"])
def test_the_next_attempt_goes_on_from_the_newest_checkpoint(stored: Api, how: str) -> None:
    first = stored.leased()
    assert first["resume_step"] == 0
    run_to(stored, first, 1, 2, 3, 4)
    keep(stored, first, 2, b"older")
    assert keep(stored, first, 3)["step"] == 3
    second = lost(stored) if how == "lost" else released(stored, first)
    assert (second["number"], second["attempt"], second["resume_step"]) == (0, 2, 3)
    assert stored.ask(second["lease_id"]) == [second]
    assert kept(stored, second) == b"state"
    assert curve(stored) == [1, 2, 3]
    run_to(stored, second, 4, 5)
    keep(stored, second, 5, b"newer")
    third = lost(stored)
    assert (third["resume_step"], kept(stored, third)) == (5, b"newer")
    assert curve(stored) == [1, 2, 3, 4, 5]


def test_an_attempt_without_a_checkpoint_of_its_own_leaves_the_older_one(stored: Api) -> None:
    first = stored.leased()
    run_to(stored, first, 1, 2)
    keep(stored, first, 2)
    run_to(stored, lost(stored), 3, 4)
    third = lost(stored)
    assert (third["attempt"], third["resume_step"], kept(stored, third)) == (3, 2, b"state")
    assert curve(stored) == [1, 2]


@pytest.mark.parametrize("steps", [(1, 3), (2, 3), (1, 2), ()])
def test_a_curve_with_a_hole_begins_anew(stored: Api, steps: tuple[int, ...]) -> None:
    first = stored.leased()
    run_to(stored, first, *steps)
    keep(stored, first, 3)
    second = lost(stored)
    assert second["resume_step"] == 0
    assert kept(stored, second) is None
    assert curve(stored) == []


def test_an_artifact_without_a_step_is_nothing_to_go_on_from(stored: Api) -> None:
    first = stored.leased()
    run_to(stored, first, 1)
    keep(stored, first, None)
    assert kept(stored, first) == b"state"
    assert lost(stored)["resume_step"] == 0


def test_a_trial_that_was_to_be_pruned_reaches_that_point_itself(api: Api) -> None:
    pruner = {"name": "median", "n_startup_trials": 1, "n_warmup_steps": 3}
    api.external(trials=2, pruner=pruner)
    good = api.leased()
    for step in (1, 2, 3):
        api.report(good, step, 0.0)
    api.tell(good, 0.0)
    first = api.leased()
    run_to(api, first, 1, 2)
    assert api.report(first, 3, 0.3) == {"action": "prune", "step": 3}
    keep(api, first, 3)
    second = lost(api)
    assert (second["number"], second["resume_step"]) == (1, 0)
    assert api.report(second, 3, 0.3) == {"action": "prune", "step": 3}


def test_an_attempt_that_begins_anew_after_all_has_a_curve_of_its_own(stored: Api) -> None:
    first = stored.leased()
    run_to(stored, first, 1, 2, 3)
    keep(stored, first, 3)
    second = lost(stored)
    assert second["resume_step"] == 3
    run_to(stored, second, 1, 2)
    assert curve(stored) == [1, 2]
    assert lost(stored)["resume_step"] == 0


def test_checkpoints_of_trials_that_have_ended_are_gone(stored: Api) -> None:
    first, second = stored.leased(), stored.leased()
    for lease in (first, second):
        keep(stored, lease, 1, lease["lease_id"].encode())
    keep(stored, first, 2, b"a newer one takes the place")
    assert blobs(stored) == sorted([b"a newer one takes the place", second["lease_id"].encode()])
    stored.post("/studies/sphere/trials/1/cancel")
    stored.tell(first, 0.5)
    assert blobs(stored) == []
    assert kept(stored, first) is None
    assert kept(stored, second) is None


def test_a_file_that_others_name_too_stays(stored: Api) -> None:
    first, second = stored.leased(), stored.leased()
    keep(stored, first, 1, b"twins")
    keep(stored, second, 1, b"twins")
    path = f"/v1/leases/{first['lease_id']}/artifacts/model"
    ok(stored.http.put(path, content=b"weights"))
    stored.tell(first, 0.5)
    assert blobs(stored) == [b"twins", b"weights"]
    assert kept(stored, second) == b"twins"
    stored.tell(second, 0.5)
    assert blobs(stored) == [b"weights"]


def test_a_file_deleted_while_its_twin_arrives_is_sent_again(
    stored: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, store = stored.leased(), stored.service.blobs
    put = type(store).put

    def and_lose(self: Any, *given: Any) -> Any:
        found = put(self, *given)
        self.remove(found[0])
        return found

    with monkeypatch.context() as patched:
        patched.setattr(type(store), "put", and_lose)
        answer = stored.http.put(
            f"/v1/leases/{lease['lease_id']}/artifacts/checkpoint", content=b"state"
        )
    assert answer.status_code == 503
    assert keep(stored, lease, 1)["sha256"]
    assert kept(stored, lease) == b"state"


def test_a_step_is_a_number_from_one(stored: Api) -> None:
    path = f"/v1/leases/{new_id()}/artifacts/checkpoint"
    for step in ("0", "x", "-1"):
        answer = stored.http.put(path, content=b"", params={"step": step})
        assert answer.status_code == 422
