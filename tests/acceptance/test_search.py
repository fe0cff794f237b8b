"""Every way to search and to stop early, in real studies of real workers on each database."""

from __future__ import annotations

from typing import Any

import pytest

from hpo_service import protocol
from hpo_service.pruners import PRUNERS
from hpo_service.samplers import SAMPLERS
from tests.acceptance.conftest import PATIENCE, Fleet, wait_for

TRIALS = 8
SPACE: dict[str, Any] = {
    "learning_rate": {"type": "float", "low": 1e-3, "high": 0.3, "log": True},
    "hidden_units": {"type": "int", "low": 4, "high": 16},
    "dropout": {"type": "float", "low": 0.0, "high": 0.5},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "grid": {"points": dict.fromkeys(SPACE, 3)},
    "tpe": {"n_startup_trials": 4},
    "gp": {"n_startup_trials": 4},
    "asha": {"min_resource": 1},
    "hyperband": {"min_resource": 1},
    "median": {"n_startup_trials": 2, "n_warmup_steps": 2},
    "percentile": {"n_startup_trials": 2, "n_warmup_steps": 2},
    "wilcoxon": {"n_warmup_steps": 2},
    "patience": {"patience": 2},
}


def spec(name: str, metrics: list[str], **more: Any) -> protocol.StudySpec:
    objective = {
        "kind": "train",
        "model": "mlp",
        "dataset": "iris",
        "metrics": metrics,
        "params": {"epochs": 6},
        "validation": {"folds": 5},
        "holdout": 0,
        "baselines": False,
    }
    given = {"name": name, "objective": objective, "search_space": SPACE, "select": "none"}
    return protocol.StudySpec.model_validate(given | {"budget": {"trials": TRIALS}} | more)


def finish(fleet: Fleet, specs: list[protocol.StudySpec]) -> list[protocol.Trial]:
    """All of their trials, once two workers have ended them all."""
    for each in specs:
        fleet.client.create_study(each)
    fleet.work("--pack", "4")
    wait_for(lambda: all(fleet.finished(each.name) for each in specs), 2 * PATIENCE)
    found = []
    for each in specs:
        trials = fleet.client.trials(each.name, limit=100).trials
        assert [trial.number for trial in trials] == list(range(TRIALS)), each.name
        assert {trial.state for trial in trials} <= {"complete", "pruned"}, each.name
        assert fleet.client.best(each.name), each.name
        found += trials
    return found


@pytest.mark.parametrize("metrics", [["accuracy"], ["accuracy", "log_loss"]], ids=len)
def test_every_sampler_comes_to_its_end_and_can_be_replayed(
    running: Fleet, metrics: list[str]
) -> None:
    names = [n for n, entry in SAMPLERS.items() if len(metrics) == 1 or entry.multi_objective]
    specs = [
        spec(f"{name}-{len(metrics)}", metrics, sampler={"name": name} | OPTIONS.get(name, {}))
        for name in names
    ]
    finish(running, specs)
    for each in specs:
        replayed = running.client.replay(each.name).trials
        assert {trial.outcome for trial in replayed} <= {"same", "given"}, each.name


@pytest.mark.parametrize("metrics", [["accuracy"], ["accuracy", "log_loss"]], ids=len)
def test_every_pruner_comes_to_its_end(running: Fleet, metrics: list[str]) -> None:
    bound = 0.2 if len(metrics) == 1 else [0.2] * len(metrics)
    options = OPTIONS | {"threshold": {"lower": bound}}
    specs = [
        spec(
            f"{name}-pruned-{len(metrics)}", metrics, pruner={"name": name} | options.get(name, {})
        )
        for name in PRUNERS
    ]
    trials = finish(running, specs)
    assert any(trial.state == "pruned" for trial in trials)
