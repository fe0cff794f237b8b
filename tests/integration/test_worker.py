"""The worker against a server that misbehaves: what is promised when something fails."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fake_server import HELD_OUT, HELD_OUT_ROWS, Answer, Drop, FakeServer
from tests.integration.conftest import Work, child_of, spools
from workers.agent import EPOCH_SECONDS


def alive(pid: int) -> bool:
    try:
        state = re.search(r"State:\s+(\w)", Path(f"/proc/{pid}/status").read_text())
    except FileNotFoundError:
        return False
    return state is not None and state[1] != "Z"


def test_trials_are_reported_in_order_and_told_at_the_end(
    server: FakeServer, work: Work, tmp_path: Path
) -> None:
    server.add({"epochs": 5}, {"epochs": 4, "seconds": 0.1, "file": 1})
    assert work() == 0
    assert server.points == {0: [1, 2, 3, 4, 5], 1: [1, 2, 3, 4]}
    assert [server.told[n]["values"] for n in (0, 1)] == [[0.05], [0.04]]
    assert server.artifacts == {1: {"model": b"weights"}}
    order = [call.request.rpartition("/")[2] for call in server.requests("tell|reports|artifacts")]
    assert order[-2:] == ["model", "tell"]
    # One process for both: torch is loaded once.
    assert server.told[0]["notes"]["pid"] == server.told[1]["notes"]["pid"]
    assert spools(tmp_path) == []


def test_an_unused_lease_id_is_sent_again_until_it_is_leased(
    server: FakeServer, work: Work
) -> None:
    server.add({}, {})
    server.fail("POST /v1/leases$", Answer(503, "unavailable", {"Retry-After": "0"}))
    server.fail("POST /v1/leases$", Drop(), late=True)
    assert work() == 0
    asked = [call.body["lease_ids"] for call in server.requests("POST /v1/leases$")]
    assert asked[0] == asked[1] == asked[2]
    assert len({tuple(ids) for ids in asked}) == 3  # two trials, and the id that was left over
    assert sorted(server.told) == [0, 1]


def test_a_lost_answer_changes_nothing(server: FakeServer, work: Work) -> None:
    server.add({"epochs": 4, "seconds": 0.05, "file": 1})
    for call in ("reports", "artifacts", "tell", "blobs"):
        for failure in (Drop(), Answer(503, "unavailable"), Answer(500, "internal")):
            server.fail(call, failure)
            server.fail(call, failure, late=True)
    assert work() == 0
    assert set(server.points[0]) == {1, 2, 3, 4}
    assert server.told[0]["values"] == [0.04]
    assert len({str(call.body) for call in server.requests("tell")}) == 1


def test_training_goes_on_while_the_server_is_away(server: FakeServer, work: Work) -> None:
    server.add({"epochs": 40, "seconds": 0.02})
    server.fail("reports", Drop(), times=4)
    assert work() == 0
    sizes = [len(call.body["reports"]) for call in server.requests("reports")]
    assert server.points[0] == list(range(1, 41))
    assert max(sizes) > 8


def test_a_pruning_stands_however_far_the_training_ran(server: FakeServer, work: Work) -> None:
    server.add({"epochs": 30})
    server.judge = lambda _, step: (
        {"action": "prune", "step": 7} if step == 7 else {"action": "continue"}
    )
    assert work() == 0
    told = server.told[0]
    assert (told["state"], told["values"], told["epoch"]) == ("pruned", [0.07], 7)


@pytest.mark.parametrize("action", ["stop", "lost"])
def test_a_trial_that_is_not_ours_any_more_is_dropped(
    server: FakeServer, work: Work, tmp_path: Path, action: str
) -> None:
    server.add({"epochs": 200, "seconds": 0.05}, {})

    def forget(number: int, _step: int) -> dict[str, Any]:
        if number == 0:
            server.released.append(0)
        return {"action": "continue" if number else action}

    server.judge = forget
    assert work() == 0
    assert len(server.points[0]) < 200
    assert list(server.told) == [1]
    assert spools(tmp_path) == []


def test_a_refused_tell_drops_the_trial(server: FakeServer, work: Work) -> None:
    server.add({}, {}, {}, {})
    for code in ("lease_lost", "cancelled", "finished"):
        server.fail("tell", Answer(409, code))
    server.released += [0, 1, 2]
    assert work() == 0
    assert list(server.told) == [3]


def test_the_heart_hears_that_a_lease_is_lost(
    server: FakeServer, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.underway.DROP_SECONDS", 0.5)
    server.ttl = 1.0
    server.add({"epochs": 1, "seconds": 60.0}, {})
    server.fate = lambda number: "held" if number else "lost"
    server.released.append(0)
    assert work() == 0
    assert list(server.told) == [1]


def test_beats_come_in_time_while_the_child_holds_its_interpreter(
    server: FakeServer, work: Work
) -> None:
    server.ttl = 1.0
    server.fail("PUT /v1/workers", Drop(), times=1)
    server.fail("PUT /v1/workers", Answer(500, "internal"), times=1)
    server.add({"end": "busy"})
    assert work() == 0
    leased = next(iter(server.requests("POST /v1/leases$"))).at
    beats = [c.at for c in server.requests("PUT /v1/workers") if c.at > leased]
    assert len(beats) >= 6
    assert max(b - a for a, b in itertools.pairwise(beats[2:])) < server.ttl


@pytest.mark.parametrize(
    ("end", "reason", "message"),
    [
        ("segfault", "crash", "SIGSEGV"),
        ("exit", "crash", "exit code 3"),
        ("killed", "oom", "SIGKILL"),
        ("memory", "oom", ""),
        ("error", "error", "ValueError: no such luck"),
        ("hang", "timeout", "1.5 seconds"),
    ],
)
def test_a_trial_that_fails_says_why_and_the_next_one_runs(
    server: FakeServer, work: Work, end: str, reason: str, message: str
) -> None:
    server.add({"end": end}, objective={"time_limit": 1.5 if end == "hang" else 60.0})
    server.add({})
    assert work() == 0
    error = server.told[0]["error"]
    assert error["reason"] == reason
    assert message in error["message"]
    assert server.told[1]["state"] == "complete"


def test_a_pack_that_dies_is_given_back_and_each_trial_tried_alone(
    server: FakeServer, work: Work
) -> None:
    server.add({}, {"end": "segfault"}, {}, {}, {}, {})
    assert work(pack=3, refill=False) == 0
    assert server.released == [1, 2]
    asked = [len(call.body["lease_ids"]) for call in server.requests("POST /v1/leases$")]
    assert asked[:4] == [3, 1, 1, 3]
    assert sorted(server.told) == [0, 3, 4, 5]


def test_what_the_server_cannot_take_fails_the_trial_and_not_the_worker(
    server: FakeServer, work: Work
) -> None:
    server.add({"file": 1}, {"epochs": 1}, {})
    server.fail("artifacts", Answer(413, "too_large"))

    def refuse(number: int, _step: int) -> dict[str, Any]:
        if number == 1:
            raise Answer(422, "invalid_request")
        return {"action": "continue"}

    server.judge = refuse
    assert work() == 0
    assert [server.told[n]["state"] for n in (0, 1, 2)] == ["fail", "fail", "complete"]
    assert "fake" in server.told[0]["error"]["message"]


def test_a_refused_report_is_found_among_the_others(server: FakeServer, work: Work) -> None:
    server.add({"epochs": 8})

    def conflict(_number: int, step: int) -> dict[str, Any]:
        if step == 5:
            raise Answer(409, "report_conflict")
        return {"action": "continue"}

    server.judge = conflict
    assert work() == 0
    assert {1, 2, 3, 4, 6, 7, 8} <= set(server.points[0])
    assert server.told[0]["state"] == "complete"


def test_points_of_a_pack_go_out_by_step_and_trial(server: FakeServer, work: Work) -> None:
    server.add({"epochs": 3}, {"epochs": 2})
    server.fail("reports", Drop(), times=2)
    assert work(pack=2) == 0
    number = {lease_id: trial["number"] for lease_id, trial in server.live.items()}
    last = server.requests("reports")[-1].body["reports"]
    assert [(r["step"], number[r["lease_id"]]) for r in last] == [
        (1, 0), (1, 1), (2, 0), (2, 1), (3, 0),
    ]  # fmt: skip


def test_a_result_on_which_the_server_breaks_is_kept_and_the_worker_goes_on(
    server: FakeServer, work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.agent.MAX_FAILURES", 3)
    server.add({}, {})
    server.fail("tell", Answer(500, "internal"), times=3)
    server.released.append(0)
    assert work() == 0
    assert list(server.told) == [1]
    assert len(spools(tmp_path)) == 1


@pytest.mark.parametrize("code", [(401, "unauthorized"), (403, "forbidden")])
def test_an_unwelcome_worker_stops_with_one_line(
    server: FakeServer, start: Callable[..., subprocess.Popen[str]], code: tuple[int, str]
) -> None:
    server.fail(".", Answer(*code), times=99)
    worker = start()
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 1
    assert f"fake {code[1]}" in said
    assert "Traceback" not in said
    assert "s3cret" not in said


def test_no_trial_is_leased_where_the_objective_does_not_load(
    server: FakeServer, work: Work
) -> None:
    server.add({})
    assert work(objective="tests.no_such_module:run") == 1
    assert server.live == {}


def test_held_out_rows_are_never_in_the_cache(
    server: FakeServer, work: Work, tmp_path: Path
) -> None:
    server.add({"end": "holdout"}, kind="final", number=None, holdout=HELD_OUT)
    server.trials[0]["number"] = 0
    assert work() == 0
    assert server.told[0]["state"] == "complete"
    assert not Path(server.told[0]["notes"]["holdout"]).exists()
    (blob,) = server.requests(HELD_OUT)
    assert "lease_id=" in blob.request
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert not any(HELD_OUT_ROWS in content for content in kept)


def test_sigterm_lets_the_epoch_end_and_gives_the_trial_back(
    server: FakeServer, start: Callable[..., subprocess.Popen[str]]
) -> None:
    server.add({"epochs": 1000, "seconds": 0.2})
    worker = start()
    server.wait(lambda: server.points)
    child = child_of(worker)
    assert b"s3cret" not in Path(f"/proc/{child}/environ").read_bytes()
    worker.terminate()
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 0, said
    assert server.released == [0]
    assert not alive(child)


def test_ctrl_c_in_a_terminal_does_not_reach_the_training(
    server: FakeServer, start: Callable[..., subprocess.Popen[str]]
) -> None:
    server.add({"epochs": 1000, "seconds": 0.5})
    worker = start()
    server.wait(lambda: server.points)
    os.killpg(worker.pid, signal.SIGINT)
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 130
    assert "KeyboardInterrupt" not in said
    assert server.released == [0]


def test_a_second_signal_releases_at_once(
    server: FakeServer, start: Callable[..., subprocess.Popen[str]]
) -> None:
    server.add({"end": "hang"})
    worker = start()
    server.wait(lambda: server.points)
    began = time.monotonic()
    worker.terminate()
    time.sleep(0.3)
    worker.terminate()
    worker.wait(timeout=60)
    assert time.monotonic() - began < EPOCH_SECONDS
    assert worker.returncode == 143
    assert server.released == [0]


def test_a_killed_worker_takes_its_training_along_and_its_result_is_told_by_the_next(
    server: FakeServer, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    server.add({"epochs": 4, "file": 1}, {"epochs": 1, "seconds": 60.0})
    server.fail("tell", Answer(503, "unavailable"), times=99)
    worker = start()
    server.wait(lambda: server.requests("tell"))
    child = child_of(worker)
    worker.kill()
    worker.wait()
    server.wait(lambda: not alive(child))
    (left,) = (path for path in spools(tmp_path) if path.suffix == ".spool")
    assert left.stat().st_mode & 0o777 == 0o600
    with left.open("ab") as file:
        file.write(b"0badc0de {torn")
    server.faults.clear()
    server.trials.clear()
    again = start("--once")
    _, said = again.communicate(timeout=60)
    assert again.returncode == 0, said
    assert server.told[0]["values"] == [0.04]
    assert set(server.points[0]) == {1, 2, 3, 4}
    assert server.artifacts[0] == {"model": b"weights"}
    assert spools(tmp_path) == []


def test_what_a_killed_worker_left_unfinished_counts_as_lost(
    server: FakeServer, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    server.add({"epochs": 1000, "seconds": 0.1})
    worker = start()
    server.wait(lambda: server.points)
    worker.kill()
    worker.wait()
    server.live.clear()
    again = start("--once")
    again.communicate(timeout=60)
    assert again.returncode == 0
    assert server.told == {}
    assert server.released == []
    assert spools(tmp_path) == []
