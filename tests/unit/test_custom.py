"""A user's own function: what it is given, and what becomes of all that it may do."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import StratifiedKFold

from hpo_service import datasets, errors, protocol
from workers import custom, custom_trial
from workers.custom_trial import Trial
from workers.work import Work

LEASE_ID = "1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b"
HUGE = 2**63 - 1


class Said:
    """A channel that keeps what was said; the decision stands from the step `at` on."""

    def __init__(self, action: protocol.Action = "continue", at: int = 1) -> None:
        self.action, self.at = action, at
        self.reports: list[protocol.Report] = []
        self.checkpoints: list[tuple[int, bytes]] = []
        self.told: list[protocol.Tell] = []

    def report(self, report: protocol.Report) -> None:
        self.reports.append(report)

    def decision(self, lease_id: str) -> protocol.Decision | None:
        if self.action == "continue" or len(self.reports) < self.at:
            return None
        return protocol.Decision(action=self.action, step=self.at)

    def tell(self, lease_id: str, tell: protocol.Tell) -> None:
        self.told.append(tell)

    def artifact(self, lease_id: str, name: str, data: bytes) -> None:
        raise AssertionError

    def checkpoint(self, lease_id: str, step: int, data: bytes) -> None:
        self.checkpoints.append((step, data))

    def more(self) -> list[protocol.TrialLease]:
        return []


def lease(**more: Any) -> protocol.TrialLease:
    objective = {"kind": "custom", "name": "m:f", "directions": ["maximize"]}
    return protocol.TrialLease.model_validate(
        {
            "lease_id": LEASE_ID, "study_id": 1, "study": "s", "trial_id": 1, "number": 7,
            "kind": "search", "attempt": 1, "ttl": 60.0, "params": {"x": 2.0}, "seed": HUGE,
            "study_seed": 3, "objective": objective | more.pop("objective", {}), **more,
        }
    )  # fmt: skip


def run(
    function: Callable[[Trial], Any],
    said: Said | None = None,
    data: Path | None = None,
    **more: Any,
) -> protocol.Tell:
    """How one trial of the function ended."""
    said = said or Said()
    checkpoints = more.pop("checkpoints", {})
    work = Work([lease(**more)], data, None, "cpu", 1, checkpoints)
    custom.run(function, work, said)
    (told,) = said.told
    return told


def failure(function: Callable[[Trial], Any], **more: Any) -> str:
    told = run(function, **more)
    assert told.state == "fail"
    assert told.error is not None
    return f"{told.error.reason}: {told.error.message}"


@pytest.fixture
def iris(tmp_path: Path) -> Path:
    path = tmp_path / "iris.safetensors"
    path.write_bytes(datasets.DATASETS["iris"].load().to_bytes())
    return path


def test_what_is_returned_is_the_trials_value() -> None:
    assert run(lambda trial: trial.params["x"] + trial.number).values == [9.0]
    assert run(lambda _: np.float32(0.5)).values == [0.5]
    two = {"directions": ["maximize", "minimize"]}
    assert run(lambda _: (1, 2.5), objective=two).values == [1.0, 2.5]


def test_a_name_with_a_label_is_the_plain_one() -> None:
    assert run(lambda trial: trial.params["rate"], params={"rate@sgd": 0.1}).values == [0.1]


def test_the_seed_is_one_that_libraries_take() -> None:
    assert run(lambda trial: np.random.RandomState(trial.seed).rand()).state == "complete"


def test_its_folds_are_those_of_scikit_learn(iris: Path) -> None:
    target = load_iris().target
    expected = StratifiedKFold(5, shuffle=True, random_state=3).split(target, target)

    def objective(trial: Trial) -> float:
        for found, wanted in zip(trial.folds(), expected, strict=True):
            assert [part.tolist() for part in found] == [part.tolist() for part in wanted]
        return float(trial.data.numeric.sum() + trial.data.target.sum())

    told = run(objective, data=iris)
    assert told.error is None
    assert told.values == pytest.approx([load_iris().data.sum() + target.sum()])


def test_reports_carry_the_values_of_the_folds_and_what_is_not_finite_as_null() -> None:
    said = Said()

    def objective(trial: Trial) -> float:
        assert not trial.report(1, 0.5, folds=[0.25, 0.75])
        assert not trial.report(np.int64(3), float("nan"), folds=np.array([np.inf, 1.0]))  # type: ignore[arg-type]
        return 0.5

    told = run(objective, said)
    assert [(r.step, r.values, r.folds) for r in said.reports] == [
        (1, [0.5], [[0.25, 0.75]]), (3, [None], [[None, 1.0]]),
    ]  # fmt: skip
    assert (told.state, told.epoch) == ("complete", 1)  # the step that the value is of


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "error: m:f returned nothing: end it with return VALUE"),
        ("0.7", "error: what m:f returned is no number but str: '0.7'"),
        (True, "error: what m:f returned is no number but bool: True"),
        ({"score": 1}, "error: what m:f returned is no number but dict: {'score': 1}"),
        ([1.0, 2.0], "error: what m:f returned: 2 numbers, but the study has 1 direction"),
        ([], "error: what m:f returned: 0 numbers, but the study has 1 direction"),
        (float("nan"), "non_finite: m:f returned nan"),
        ([-float("inf")], "non_finite: m:f returned [-inf]"),
        (10**400, "non_finite: int too large to convert to float"),
    ],
)
def test_what_is_no_value_is_said_to_be_none(answer: object, message: str) -> None:
    assert failure(lambda _: answer) == message


def test_what_it_raises_fails_its_trial_with_the_last_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parent)

    def leave(_trial: Trial) -> float:
        sys.exit(3)

    def nonsense(_trial: Trial) -> float:
        raise ValueError("no\0 luck \udc80")

    assert failure(lambda _: 1 / 0).startswith("error: ZeroDivisionError: division by zero (test_c")
    assert failure(leave).startswith("error: SystemExit: 3 (test_custom.py, line ")
    assert failure(nonsense).startswith("error: ValueError: no luck ?")
    assert failure(lambda _: bytearray(2**62)).startswith("oom: MemoryError")
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (0, "steps are counted from 1, as in report(epoch + 1, ...)"),
        (1, "step 1 comes after step 1"),
        (1.5, "a step is a whole number"),
    ],
)
def test_a_step_that_makes_no_sense_is_said_so(step: Any, message: str) -> None:
    def objective(trial: Trial) -> float:
        trial.report(1, 0.5)
        trial.report(step, 0.5)
        return 0.5

    assert message in failure(objective)


def test_data_without_a_data_set_is_said_so() -> None:
    assert "set objective.dataset" in failure(lambda trial: len(trial.data.target))


def ten_steps(trial: Trial) -> float:
    for step in range(1, 11):
        if trial.report(step, step / 10):
            break
    return 1.0


def test_a_pruned_trial_has_the_value_of_the_step_that_was_judged() -> None:
    told = run(ten_steps, Said("prune", at=4))
    assert (told.state, told.values, told.epoch) == ("pruned", [0.4], 4)


def test_a_pruning_stands_also_where_the_function_raises_its_own_end() -> None:
    def objective(trial: Trial) -> float:
        if trial.report(1, 0.25):
            raise StopIteration
        return 1.0

    assert run(objective, Said("prune")).values == [0.25]


@pytest.mark.parametrize("action", ["stop", "lost"])
def test_a_trial_that_was_to_stop_is_not_complete(action: protocol.Action) -> None:
    assert failure(ten_steps, said=Said(action, at=4)) == f"stopped: the server said {action}"


def test_a_trial_that_never_heard_of_a_stop_is_complete() -> None:
    def objective(trial: Trial) -> float:
        trial._channel.report(protocol.Report(lease_id=LEASE_ID, step=1, values=[0.1]))
        return 1.0

    assert run(objective, Said("stop")).values == [1.0]


def test_the_last_checkpoint_is_kept_when_it_is_to_stop(tmp_path: Path) -> None:
    said, before = Said("stop", at=3), tmp_path / "checkpoint"
    before.write_bytes(b"after 4")

    def objective(trial: Trial) -> float:
        resumed = trial.resume()
        assert resumed == (4, b"after 4")
        for step in range(5, 10):
            stop = trial.report(step, 0.5)
            trial.checkpoint(f"after {step}".encode())
            if stop:
                break
        return 0.5

    told = run(objective, said, resume_step=4, checkpoints={LEASE_ID: before})
    assert told.error == protocol.TrialError(reason="stopped", message="the server said stop")
    assert said.checkpoints == [(7, b"after 7")]


def test_of_frequent_checkpoints_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    said, clock = Said(), iter(range(0, 1000, 10))
    monkeypatch.setattr(custom_trial.time, "monotonic", lambda: next(clock))

    def objective(trial: Trial) -> float:
        assert trial.resume() is None
        for step in range(1, 8):
            trial.report(step, 0.5)
            trial.checkpoint(b"state")
        return 0.5

    run(objective, said)
    assert [step for step, _ in said.checkpoints] == [3, 6]
    assert "report a step before its checkpoint" in failure(lambda trial: trial.checkpoint(b""))


# --- finding the function -------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, importable for the length of a test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


def write(folder: Path, text: str) -> str:
    """A module with this text; its name."""
    name = f"study_{os.urandom(4).hex()}"
    (folder / f"{name}.py").write_text(text)
    return name


def test_a_function_is_found_in_the_current_folder(folder: Path) -> None:
    name = write(folder, "class A:\n    @staticmethod\n    def score(trial):\n        return 0.5\n")
    said = Said()
    custom.load(f"{name}:A.score")(Work([lease()], None, None, "cpu", 1), said)
    assert said.told[0].values == [0.5]


@pytest.mark.parametrize(
    ("text", "function", "message"),
    [
        ("def objective(trial): ...\ndef other(t): ...", "f", "has no 'f': take one of objective"),
        ("f = 3", "f", "is no function but int"),
        ("def f(): ...", "f", r"must take one argument, the trial: def f\(trial\)"),
        ("def f(a, b): ...", "f", "must take one argument"),
        ("import no_such_module", "f", r"No module named 'no_such_module' \(study_.*, line 1\)"),
        ("\ndef f(:", "f", r"SyntaxError: invalid syntax \(study_.*, line 2\)"),
        ("import sys\nsys.exit(1)", "f", r"cannot be imported: SystemExit: 1 \(study_.*, line 2\)"),
    ],
)
def test_what_is_no_function_of_a_trial_is_said_so(
    folder: Path, text: str, function: str, message: str
) -> None:
    name = write(folder, text)
    with pytest.raises(errors.InvalidRequest, match=f"^--objective: {name}.*{message}"):
        custom.find(f"{name}:{function}")


@pytest.mark.parametrize("name", ["no_such_study", "no_such.study", "json.no_such_study"])
def test_a_module_that_is_not_there_is_looked_for_here(folder: Path, name: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=f"no module '{name}' in {folder}"):
        custom.find(f"{name}:objective")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my_study:objective", ("my_study:objective", "my_study:objective")),
        ("a.b:C.f", ("a.b:C.f", "a.b:C.f")),
        ("boosting-2=a.b:f", ("boosting-2", "a.b:f")),
    ],
)
def test_a_function_is_named_by_its_module_or_as_one_likes(
    text: str, expected: tuple[str, str]
) -> None:
    assert protocol.named_function(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("my_study.py:objective", "my_study.py is a file.* such as my_study:objective"),
        ("./a/my_study.py", "is a file: .* such as a.my_study:objective"),
        ("my_study", "write MODULE:FUNCTION"),
        ("my_study:", "write MODULE:FUNCTION"),
        ("my-study:f", "is not MODULE:FUNCTION"),
        ("a:b:c", "is not MODULE:FUNCTION"),
        ("two words=a:b", "write NAME=a:b"),
        ("=a:b", "write NAME=a:b"),
        ("modül:f", "write NAME=modül:f"),
    ],
)
def test_what_names_no_function_is_said_so(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        protocol.named_function(text)
