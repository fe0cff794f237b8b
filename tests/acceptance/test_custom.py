"""A user's own function as real processes: the README's own example, and one that misbehaves."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from hpo_service.protocol import ManualTrial, StudySpec, Trial
from tests.acceptance.conftest import PATIENCE, ROOT, Fleet, wait_for

WAYS = ["fine", "raise", "leave", "nan", "nothing", "crash", "hang"]
MODULE = """
import os, sys, time

def objective(trial):
    how = trial.params["how"]
    for step in range(1, 41):
        if trial.report(step, trial.params["x"] - 1 / step):
            return trial.params["x"]
        time.sleep(0.01)
        if step == 5 and how != "fine":
            return end(how)
    return trial.params["x"]

def end(how):
    if how == "raise":
        raise RuntimeError("no such luck")
    if how == "leave":
        sys.exit(0)
    if how == "crash":
        os._exit(7)
    if how == "hang":
        time.sleep(600)
    return float("nan") if how == "nan" else None
"""


# One kind is enough: what is stored is tested elsewhere.
pytestmark = pytest.mark.parametrize("lasting", ["sqlite"], indirect=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mine"
    made.mkdir()
    return made


def test_the_example_of_the_readme_runs_word_for_word(running: Fleet, folder: Path) -> None:
    section = (ROOT / "README.md").read_text().partition("## Your own function\n")[2]
    for name, kind in (("my_study.py", "python"), ("my_study.json", "json")):
        block = re.search(rf"^```{kind}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
        assert block is not None
        (folder / name).write_text(block[1])
    shown = re.findall(r"^\$ hpo (.*)$", section.partition("\n## ")[0], re.MULTILINE)
    worker, create = map(shlex.split, shown)
    running.start("hpo_service.cli", *worker, folder=folder)
    created = running.start("hpo_service.cli", *create, folder=folder)
    assert created.wait(timeout=PATIENCE) == 0
    study = running.client.study("my-study")
    assert (study.state, study.n_trials) == ("finished", 15)
    assert study.counts.complete + study.counts.pruned == 15
    (best,) = study.best
    assert best.values[0] > 0.93
    assert best.folds is not None
    assert [len(values) for values in best.folds] == [5]
    curve = running.client.curve("my-study", best.number)
    assert [point.step for point in curve.points] == list(range(1, 21))


def misbehaving(name: str) -> StudySpec:
    return StudySpec.model_validate(
        {
            "name": name,
            "objective": {
                "kind": "custom",
                "name": name,
                "directions": ["maximize"],
                "time_limit": 4.0,
            },
            "search_space": {
                "how": {"type": "categorical", "choices": WAYS},
                "x": {"type": "float", "low": 0, "high": 1},
            },
            "sampler": {"name": "tpe"},
            "pruner": {"name": "median", "n_startup_trials": 3},
            "budget": {"trials": 12},
        }
    )


def test_whatever_the_function_does_ends_its_trial_alone(running: Fleet, folder: Path) -> None:
    (folder / "misbehaving.py").write_text(MODULE)
    # Named like a module of ours, which is not taken from here.
    (folder / "workers.py").write_text("raise SystemExit('taken for another module')")
    running.client.create_study(misbehaving("mine"))
    for how in WAYS:
        running.client.add_trial("mine", manual(how))
    options = ("--objective", "mine=misbehaving:objective", "--once")
    worker = running.start("hpo_service.cli", "worker", *options, folder=folder)
    wait_for(lambda: running.finished("mine"))
    trials = running.client.trials("mine", limit=100).trials
    assert len(trials) == 12
    assert {str(trial.params["how"]): end_of(trial) for trial in trials[: len(WAYS)]} == {
        "fine": "complete",
        "raise": "error: RuntimeError: no such luck (misbehaving.py, line 16)",
        "leave": "error: SystemExit: 0 (misbehaving.py, line 18)",
        "nan": "non_finite: mine returned nan",
        "nothing": "error: mine returned nothing: end it with return VALUE",
        "crash": "crash: The training process ended with exit code 7 before its work did.",
        "hang": "timeout: The attempt took longer than its 4 seconds.",
    }
    assert all(trial.lost == 0 for trial in trials)
    assert worker.wait(timeout=PATIENCE) == 0


def test_a_hopeless_trial_is_pruned(running: Fleet, folder: Path) -> None:
    (folder / "misbehaving.py").write_text(MODULE)
    running.client.create_study(misbehaving("hopeless"))
    for x in (0.9, 0.8, 0.7, 0.1):
        running.client.add_trial("hopeless", manual("fine", x))
    running.start("workers", "--objective", "hopeless=misbehaving:objective", folder=folder)
    wait_for(lambda: running.client.trial("hopeless", 3).state not in ("waiting", "running"))
    pruned = running.client.trial("hopeless", 3)
    assert (pruned.state, pruned.epoch) == ("pruned", 5)  # the pruner's first after its warm-up
    assert pruned.values == pytest.approx([0.1 - 1 / 5])


def manual(how: str, x: float = 0.5) -> ManualTrial:
    return ManualTrial(params={"how": how, "x": x})


def end_of(trial: Trial) -> str:
    return trial.state if trial.error is None else f"{trial.error.reason}: {trial.error.message}"
