"""Packs that get new trials while others of theirs go on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from hpo_service import protocol
from tests.fake_server import HELD_OUT, Answer, Drop, FakeServer
from tests.integration.conftest import Work, spools
from workers import messages
from workers.child import PipeChannel

IN_STEP = "tests.objectives:in_step"


def told_in_order(server: FakeServer) -> list[int]:
    return list(server.told)


def test_a_place_that_is_free_is_filled_while_the_others_go_on(
    server: FakeServer, work: Work, tmp_path: Path
) -> None:
    server.add({"epochs": 60, "seconds": 0.05}, *[{"epochs": 3} for _ in range(6)])
    assert work(objective=IN_STEP, pack=3) == 0
    assert sorted(server.told) == list(range(7))
    assert told_in_order(server)[-1] == 0
    assert len({told["notes"]["pid"] for told in server.told.values()}) == 1
    asked = server.requests("POST /v1/leases$")
    assert len(asked[0].body["lease_ids"]) == 3
    assert all(len(call.body["lease_ids"]) <= 2 for call in asked[1:-1])
    assert {call.body["study"] for call in asked[1:-1]} == {1}
    assert spools(tmp_path) == []


def test_a_pack_of_one_leases_after_its_tell(server: FakeServer, work: Work) -> None:
    server.add({}, {})
    assert work(objective=IN_STEP) == 0
    order = [call.request.rpartition("/")[2] for call in server.requests("leases$|tell")]
    assert order[:4] == ["leases", "tell", "leases", "tell"]


def test_without_refill_a_pack_tells_at_its_end_in_order(server: FakeServer, work: Work) -> None:
    lengths = [9, 3, 6, 2, 5, 1]
    server.add(*[{"epochs": n, "seconds": 0.1} for n in lengths])
    server.fail("tell", Answer(503, "unavailable", {"Retry-After": "0"}))
    assert work(objective=IN_STEP, pack=3, refill=False) == 0
    assert told_in_order(server) == [0, 1, 2, 3, 4, 5]
    assert server.points == {n: list(range(1, k + 1)) for n, k in enumerate(lengths)}
    # The first pack's longest trial had ended when the first of them told.
    told = server.requests("tell")[0]
    sent = [call.body["reports"] for call in server.requests("reports") if call.at < told.at]
    assert 9 in {report["step"] for batch in sent for report in batch}
    asked = [len(call.body["lease_ids"]) for call in server.requests("POST /v1/leases$")]
    assert asked == [3, 3, 3]


def test_a_trial_that_came_too_late_for_its_pack_is_a_pack_of_its_own(
    server: FakeServer, work: Work
) -> None:
    # This objective never asks for more.
    server.add({"epochs": 1}, {"epochs": 20, "seconds": 0.05}, {}, {})
    assert work(pack=2) == 0
    assert sorted(server.told) == [0, 1, 2, 3]
    assert {told["state"] for told in server.told.values()} == {"complete"}
    assert server.released == []


def lease(number: int) -> protocol.TrialLease:
    given: dict[str, Any] = {"lease_id": f"lease-{number}", "number": number, "kind": "search"}
    given |= {"study_id": 1, "study": "s", "trial_id": 1, "attempt": 1, "ttl": 9.0, "params": {}}
    given |= {"seed": 0, "study_seed": 0, "objective": {"kind": "external"}}
    return protocol.TrialLease.model_validate(given)


def test_the_channel_hands_out_what_came_and_keeps_what_was_not_asked_for() -> None:
    channel = PipeChannel(io.BytesIO())
    pack = messages.Pack(leases=[lease(0)], data="d", holdout=None, artifacts="a", lanes=1)
    channel.receive(pack)
    assert channel.next(None) == pack
    assert channel.more() == []
    channel.receive(messages.More(leases=[lease(1)], checkpoints={"lease-1": "path"}))
    channel.receive(messages.More(leases=[lease(2)]))
    assert channel.more() == [lease(1), lease(2)]
    assert channel.checkpoints == {"lease-1": Path("path")}
    assert channel.given == ["lease-0", "lease-1", "lease-2"]
    channel.receive(messages.More(leases=[lease(3)]))
    late = channel.next(pack)
    assert (late.leases, late.data, late.lanes) == ([lease(3)], "d", None)
    assert channel.given == ["lease-3"]
    assert channel.untold == {"lease-3"}


def test_a_disk_that_fails_costs_the_checkpoint_and_not_the_trial(tmp_path: Path) -> None:
    said = io.BytesIO()
    channel = PipeChannel(said)
    folder = str(tmp_path / "missing")
    channel.receive(messages.Pack(leases=[lease(0)], data="d", holdout=None, artifacts=folder))
    channel.next(None)
    channel.checkpoint("lease-0", 1, b"state")
    assert said.getvalue() == b""


def test_a_refill_that_fails_holds_nothing_up(server: FakeServer, work: Work) -> None:
    server.add({"epochs": 30, "seconds": 0.05}, {"epochs": 1})
    server.add({"epochs": 2})

    def first(request: str, late: bool) -> None:
        if request.endswith("/leases") and len(server.requests("POST /v1/leases$")) in (2, 3):
            raise Drop if late else Answer(500, "internal")

    server.faults.append(type("Second", (), {"strike": staticmethod(first)})())
    assert work(objective=IN_STEP, pack=2) == 0
    assert sorted(server.told) == [0, 1, 2]
    assert len(server.live) == 3


def test_a_final_trial_waits_for_a_pack_of_its_own(server: FakeServer, work: Work) -> None:
    server.add({"epochs": 1}, {"epochs": 20, "seconds": 0.05})
    server.add({"end": "holdout", "at": 1}, kind="final", holdout=HELD_OUT)
    assert work(objective=IN_STEP, pack=2) == 0
    assert told_in_order(server) == [0, 1, 2]
    assert server.told[2]["state"] == "complete"
    leased = next(c for c in server.calls if c.request == "POST /v1/leases" and c.body["study"])
    assert leased.at < server.requests("tell")[1].at


def test_a_refilled_trial_goes_on_from_its_checkpoint(server: FakeServer, work: Work) -> None:
    server.add({"epochs": 30, "seconds": 0.05}, {"epochs": 1})
    server.add({"epochs": 6}, resume_step=4)
    server.artifacts[2] = {"checkpoint": b'{"step": 4}'}
    assert work(objective=IN_STEP, pack=2) == 0
    assert server.points[2] == [5, 6]
    assert told_in_order(server) == [1, 2, 0]


def test_a_refilled_trial_whose_checkpoint_does_not_come_waits_for_the_next_pack(
    server: FakeServer, work: Work
) -> None:
    server.add({"epochs": 20, "seconds": 0.05}, {"epochs": 1})
    server.add({"epochs": 6}, resume_step=4)
    server.artifacts[2] = {"checkpoint": b'{"step": 4}'}
    server.fail("GET .*checkpoint", Answer(503, "unavailable"))
    assert work(objective=IN_STEP, pack=2) == 0
    assert server.points[2] == [5, 6]
    assert told_in_order(server) == [1, 0, 2]


def test_each_trial_has_its_own_time(server: FakeServer, work: Work) -> None:
    server.add({"epochs": 60, "seconds": 0.05}, objective={"time_limit": 1.0})
    server.add({"epochs": 50, "seconds": 0.05}, {"epochs": 2})
    assert work(objective=IN_STEP, pack=2) == 0
    assert server.told[0]["error"]["reason"] == "timeout"
    assert {server.told[n]["state"] for n in (1, 2)} == {"complete"}
    assert server.released == []
    assert server.told[1]["notes"]["pid"] == server.told[2]["notes"]["pid"]


def test_a_trial_that_hangs_beyond_its_time_takes_no_other_with_it(
    server: FakeServer, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.underway.DROP_SECONDS", 0.5)
    server.add({"end": "hang", "at": 2}, objective={"time_limit": 1.0})
    server.add({}, {})
    assert work(objective=IN_STEP, pack=2) == 0
    assert server.told[0]["error"]["reason"] == "timeout"
    assert server.released == [1]
    assert server.told[2]["state"] == "complete"
