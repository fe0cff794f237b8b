"""Checkpoints on their way from the training to the server and back, and the retry for memory."""

from __future__ import annotations

import itertools
import json
import logging
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fake_server import Answer, Call, Drop, FakeServer
from tests.integration.conftest import Work, spools

IN_STEP = "tests.objectives:in_step"
PUT = "PUT .*artifacts/checkpoint"


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> float:
    """The least seconds between two checkpoints of a lease."""
    monkeypatch.setattr("workers.outbox.CHECKPOINT_SECONDS", 0.3)
    return 0.3


def step_of(call: Call) -> int:
    found = re.search(r"step=(\d+)", call.request)
    assert found
    assert call.body == {"step": int(found[1])}
    return int(found[1])


def steps_reported(server: FakeServer, before: Call) -> set[int]:
    calls = itertools.takewhile(lambda call: call is not before, server.calls)
    reports = [call.body["reports"] for call in calls if call.request.endswith("/reports")]
    return {report["step"] for batch in reports for report in batch}


def test_the_newest_checkpoint_goes_out_at_intervals_behind_its_reports(
    server: FakeServer, work: Work, tmp_path: Path, often: float
) -> None:
    server.add({"epochs": 30, "seconds": 0.05})
    assert work(objective=IN_STEP) == 0
    calls = server.requests(PUT)
    steps = [step_of(call) for call in calls]
    assert len(steps) >= 3
    assert steps == sorted(set(steps))
    # When they left counts, and the first may have been long on its way.
    assert all(b.at - a.at >= often / 2 for a, b in itertools.pairwise(calls))
    for call, step in zip(calls, steps, strict=True):
        assert set(range(1, step + 1)) <= steps_reported(server, call)
    assert spools(tmp_path) == []


def test_a_short_trial_sends_no_checkpoint(server: FakeServer, work: Work) -> None:
    server.add({"epochs": 5})
    assert work(objective=IN_STEP) == 0
    assert server.requests(PUT) == []


@pytest.mark.parametrize("failure", [Drop(), Answer(503, "unavailable"), Answer(413, "too_large")])
def test_a_checkpoint_that_fails_costs_the_trial_nothing(
    server: FakeServer, work: Work, often: float, failure: Exception
) -> None:
    server.fail(PUT, failure, times=2)
    server.add({"epochs": 60, "seconds": 0.05})
    assert work(objective=IN_STEP) == 0
    assert server.told[0]["state"] == "complete"
    assert server.points[0] == list(range(1, 61))
    first, second, *more = server.requests(PUT)
    assert more
    reports = server.requests("POST /v1/reports")
    assert any(first.at < call.at < second.at for call in reports)


def test_no_checkpoint_is_sent_while_its_reports_are_not(
    server: FakeServer, work: Work, often: float
) -> None:
    server.fail("reports", Answer(503, "unavailable", {"Retry-After": "0"}), times=8)
    server.add({"epochs": 30, "seconds": 0.05})
    assert work(objective=IN_STEP) == 0
    answered = server.requests("reports")[8]
    assert all(call.at > answered.at for call in server.requests(PUT))


def test_a_trial_given_back_leaves_its_last_step_on_the_server(
    server: FakeServer, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    server.add({"epochs": 1000, "seconds": 0.1})
    worker = start("--run", IN_STEP)
    server.wait(lambda: 3 in server.points.get(0, []))
    worker.terminate()
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 0, said
    assert server.released == [0]
    (kept,) = server.requests(PUT)
    assert step_of(kept) == server.points[0][-1]
    assert set(range(1, step_of(kept) + 1)) <= steps_reported(server, kept)
    assert server.calls.index(kept) < server.calls.index(server.requests("release")[0])
    assert spools(tmp_path) == []


def test_what_could_not_be_given_back_is_by_the_next_worker_with_its_checkpoint(
    server: FakeServer, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    server.add({"epochs": 1000, "seconds": 0.1})
    worker = start("--run", IN_STEP)
    server.wait(lambda: 2 in server.points.get(0, []))
    server.fail("reports|artifacts|release", Drop(), times=99)
    worker.terminate()
    worker.communicate(timeout=60)
    server.faults.clear()
    again = start("--once")
    again.communicate(timeout=60)
    assert server.released == [0]
    assert server.artifacts[0]["checkpoint"] == json.dumps({"step": server.points[0][-1]}).encode()
    assert spools(tmp_path) == []


def test_a_trial_goes_on_from_its_checkpoint(
    server: FakeServer, work: Work, tmp_path: Path
) -> None:
    server.add({"epochs": 6}, resume_step=4, attempt=2)
    server.artifacts[0] = {"checkpoint": b'{"step": 4}'}
    server.fail("GET .*checkpoint", Drop())
    server.fail("GET .*checkpoint", Answer(503, "unavailable", {"Retry-After": "0"}))
    assert work(objective=IN_STEP) == 0
    assert server.points[0] == [5, 6]
    assert server.told[0]["notes"]["began"] == 4
    assert spools(tmp_path) == []


def test_a_trial_whose_checkpoint_is_gone_begins_anew(server: FakeServer, work: Work) -> None:
    server.add({"epochs": 6}, resume_step=4, attempt=2)
    assert work(objective=IN_STEP) == 0
    assert server.points[0] == [1, 2, 3, 4, 5, 6]
    assert server.told[0]["notes"]["began"] == 0


@pytest.mark.parametrize(("forgetful", "began"), [(False, 3), (True, 0)])
def test_a_trial_killed_for_memory_runs_once_more_with_one_lane(
    server: FakeServer, work: Work, forgetful: bool, began: int
) -> None:
    given = {"epochs": 6, "end": "killed", "at": 4, "spared": True, "forgetful": forgetful}
    server.add(given | {"seconds": 0.02})
    assert work(objective=IN_STEP) == 0
    notes = server.told[0]["notes"]
    assert (notes["lanes"], notes["began"]) == (1, began)
    assert server.points[0] == [1, 2, 3, 4, 5, 6]
    assert server.released == []
    assert len(server.live) == 1


def test_a_trial_killed_again_fails_and_the_next_one_has_all_lanes(
    server: FakeServer, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    server.add({"epochs": 6, "end": "killed", "at": 4}, {})
    with caplog.at_level(logging.WARNING, "hpo.worker"):
        assert work(objective=IN_STEP) == 0
    assert server.told[0]["error"]["reason"] == "oom"
    assert "SIGKILL" in caplog.text
    assert server.told[1]["notes"]["lanes"] is None


def test_a_pack_killed_for_memory_is_tried_one_by_one(server: FakeServer, work: Work) -> None:
    server.add({"epochs": 6, "end": "killed", "at": 4}, {"epochs": 6})
    assert work(objective=IN_STEP, pack=2) == 0
    assert server.released == [0, 1]
    last = [step_of(call) for call in server.requests(PUT)]
    assert last == [3, 3]
    assert server.points == {0: [1, 2, 3], 1: [1, 2, 3]}
