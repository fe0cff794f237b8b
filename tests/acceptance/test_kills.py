"""A worker and the server are killed mid-study: one attempt is lost, and nothing else."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpo_service import protocol
from tests.acceptance.conftest import Fleet, kill, wait_for

ROOT = Path(__file__).parents[2]
TRIALS = 4
EPOCHS = 80  # long enough to be hit in the middle


def spec(name: str, **more: Any) -> protocol.StudySpec:
    given = {
        "name": name,
        "objective": {
            "kind": "train",
            "model": "mlp",
            "dataset": "digits",
            "params": {"epochs": EPOCHS, "optimizer": "sgd"},
            "validation": {"folds": 3},
            "baselines": False,
        },
        "search_space": {
            "learning_rate": {"type": "float", "low": 0.001, "high": 0.1, "log": True},
            "hidden_units": {"type": "int", "low": 16, "high": 64},
        },
        "sampler": {"name": "random"},
        "budget": {"trials": TRIALS},
    }
    return protocol.StudySpec.model_validate(given | more)


def each_trial_once(fleet: Fleet, study: str) -> list[protocol.Trial]:
    """The study has just its budget of trials, each complete; returns them."""
    trials = fleet.client.trials(study, limit=500).trials
    assert [t.number for t in trials] == list(range(TRIALS))
    assert {t.state for t in trials} == {"complete"}
    for trial in trials:
        steps = [p.step for p in fleet.client.curve(study, trial.number or 0).points]
        assert steps == list(range(1, EPOCHS + 1))
    return trials


def reported(fleet: Fleet, study: str) -> bool:
    """A running search trial has stored a point of its curve."""
    running = fleet.client.trials(study, state="running").trials
    return any(fleet.client.curve(study, t.number or 0).points for t in running)


def test_a_killed_worker_costs_one_attempt_and_nothing_else(fleet: Fleet) -> None:
    fleet.serve()
    fleet.client.create_study(spec("kill-worker"))
    victim = fleet.work()
    wait_for(lambda: reported(fleet, "kill-worker"))
    kill(victim)
    # Its last words may be on their way: what the server holds for it is what was lost.
    held = fleet.client.trials("kill-worker", state="running").trials
    fleet.work()
    wait_for(lambda: fleet.finished("kill-worker"))
    trials = each_trial_once(fleet, "kill-worker")
    assert sum(t.lost for t in trials) == len(held) == 1
    assert sum(t.attempts for t in trials) == TRIALS + 1
    assert trials[held[0].number or 0].params == held[0].params
    result = fleet.client.final("kill-worker")
    assert result.state == "complete"
    assert result.winner is not None
    assert result.winner.held_out[0].value > 0.8


def test_a_killed_server_loses_nothing(fleet: Fleet) -> None:
    server = fleet.serve()
    fleet.client.create_study(spec("kill-server"))
    fleet.work()
    fleet.work()
    wait_for(lambda: reported(fleet, "kill-server"))
    before = fleet.client.trials("kill-server", state="complete").trials
    kill(server)
    fleet.serve()
    wait_for(lambda: fleet.finished("kill-server"))
    trials = each_trial_once(fleet, "kill-server")
    assert sum(t.lost for t in trials) == 0
    for trial in before:
        assert trials[trial.number or 0].values == trial.values


@pytest.mark.parametrize(
    ("how", "database_url"),
    [("killed", "postgresql"), ("stopped", "sqlite")],
    indirect=["database_url"],
)
def test_the_next_attempt_goes_on_where_the_last_one_was(fleet: Fleet, how: str) -> None:
    fleet.environment |= {"PYTHONPATH": str(ROOT), "STEP_SECONDS": "0.05"}
    fleet.serve()
    fleet.client.create_study(spec("resume", budget={"trials": 1}))
    worker = hasty(fleet)
    wait_for(lambda: reported(fleet, "resume") and kept(fleet))
    if how == "killed":
        kill(worker)
    else:
        worker.terminate()
        worker.wait()
    stored, reached = kept(fleet), len(fleet.client.curve("resume", 0).points)
    hasty(fleet)
    wait_for(lambda: fleet.finished("resume"))
    (trial,) = fleet.client.trials("resume").trials
    assert (trial.state, trial.attempts, trial.lost) == ("complete", 2, how == "killed")
    curve = fleet.client.curve("resume", 0).points
    assert [p.step for p in curve] == list(range(1, EPOCHS + 1))
    began = sum(p.attempt == 1 for p in curve)
    assert 0 < began <= reached
    assert began in stored
    assert began == reached or how == "killed"
    assert [p.attempt for p in curve] == [1] * began + [2] * (EPOCHS - began)
    assert kept(fleet) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_training_that_was_stopped_ends_as_if_it_had_not_been(fleet: Fleet) -> None:
    fleet.serve()
    for name in ("whole", "stopped"):
        fleet.client.create_study(spec(name, budget={"trials": 1}))
    worker = fleet.work("--study", "stopped")
    wait_for(lambda: reported(fleet, "stopped"))
    worker.terminate()
    worker.wait()
    (left,) = fleet.client.trials("stopped").trials
    assert (left.state, left.attempts) == ("waiting", 1)
    fleet.work("--once")
    wait_for(lambda: fleet.finished("stopped") and fleet.finished("whole"))
    (trial,) = fleet.client.trials("stopped").trials
    assert (trial.state, trial.attempts, trial.lost) == ("complete", 2, 0)
    points = {name: fleet.client.curve(name, 0).points for name in ("whole", "stopped")}
    assert 0 < sum(p.attempt == 1 for p in points["stopped"]) < EPOCHS
    told = {
        name: [(p.step, p.values, p.folds, p.metrics) for p in found]
        for name, found in points.items()
    }
    assert told["stopped"] == told["whole"]


def hasty(fleet: Fleet) -> subprocess.Popen[bytes]:
    return fleet.start("tests.hasty_worker", "--run", "tests.objectives:in_step", "--once")


def kept(fleet: Fleet) -> list[int]:
    """The steps of the checkpoints among the server's files."""
    files = [p.read_bytes() for p in Path(fleet.environment["HPO_DATA_DIR"]).rglob("sha256/*/*")]
    return [json.loads(f)["step"] for f in files if f.startswith(b'{"step"')]
