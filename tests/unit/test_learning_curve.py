"""A learning curve over rows: the study that makes it, and what that says."""

from __future__ import annotations

from typing import Any

import pytest

from hpo_service import errors, learning_curve, protocol
from hpo_service.database import Database
from hpo_service.tables import Attempt, Report, Study, Trial
from tests.conftest import START

SPEC: dict[str, Any] = {
    "name": "s",
    "objective": {
        "kind": "train",
        "model": "mlp",
        "dataset": "iris",
        "metrics": ["accuracy"],
        "params": {"epochs": 4},
        "validation": {"method": "k_fold", "folds": 3},
        "holdout": 0.2,
    },
    "search_space": {"learning_rate@low": {"type": "float", "low": 0.001, "high": 0.1}},
    "constraints": ["learning_rate < 0.09"],
    "pruner": {"name": "asha"},
    "budget": {"trials": 9},
    "seed": 7,
}
OF_SHARES = {"train_share": {"type": "categorical", "choices": [0.5, 1.0]}}


def study(
    database: Database,
    name: str = "s",
    state: protocol.StudyState = "finished",
    params: dict[str, Any] | None = None,
    **changes: Any,
) -> Study:
    """A study of one completed trial, where it has `params`."""
    spec = SPEC | {"name": name} | changes
    row = Study(
        name=name, kind="train", spec=spec, directions=["maximize"], state=state, seed=7,
        created_at=START,
    )  # fmt: skip
    with database.write() as (session, _):
        session.add(row)
        session.flush()
        if params is not None:
            trial(session, row, 0, params, 0.9)
    return row


def trial(session: Any, of: Study, number: int, params: dict[str, Any], value: float) -> None:
    """A completed trial of two folds and two epochs, of which the first scored."""
    row = Trial(
        study_id=of.id, kind="search", number=number, state="complete", params=params,
        values=[value], epoch=1, created_at=START,
    )  # fmt: skip
    session.add(row)
    session.flush()
    for step in (1, 2):
        session.add(
            Report(
                trial_id=row.id, attempt=1, step=step, values=[value / step],
                by_fold=[[value - 0.1, value + 0.1], [0.97, 0.99]],
                metrics={"train_accuracy": 0.98}, created_at=START,
            )
        )  # fmt: skip
    session.add(
        Attempt(
            lease_id=str(row.id), trial_id=row.id, attempt=1, worker="w", token="", outcome="told",
            notes={"train_rows": 80 * params.get("train_share", 1.0)}, started_at=START,
        )
    )  # fmt: skip


def made(database: Database, of: Study, **asked: Any) -> protocol.StudySpec:
    with database.read() as session:
        return learning_curve.spec(session, of, protocol.LearningCurveSpec(**asked))


def test_the_winner_is_trained_on_more_and_more_rows_of_the_same_folds(database: Database) -> None:
    spec = made(database, study(database, params={"learning_rate@low": 0.05}))
    objective = spec.objective
    assert isinstance(objective, protocol.TrainObjective)
    assert (spec.name, spec.seed, spec.select) == ("s-learning-curve", 7, "none")
    assert (spec.sampler.name, spec.pruner.name, spec.first) == ("grid", "none", None)
    assert spec.search_space == {
        "train_share": protocol.Choice(type="categorical", choices=[0.1, 0.2, 0.4, 0.7, 1.0])
    }
    assert spec.budget.trials == 5
    # They are about parameters that are fixed here, as the winner met them.
    assert spec.constraints == []
    assert objective.params == {"epochs": 4, "learning_rate": 0.05}
    assert objective.baselines is False
    own = protocol.StudySpec.model_validate(SPEC).objective
    same = {"model", "dataset", "metrics", "validation", "holdout"}
    assert objective.model_dump(include=same) == own.model_dump(include=same)


def test_shares_and_repeats_can_be_asked_for(database: Database) -> None:
    spec = made(database, study(database, params={}), shares=[1.0, 0.25], repeats=3)
    assert isinstance(spec.objective, protocol.TrainObjective)
    assert spec.objective.validation.repeats == 3
    assert spec.search_space is not None
    (searched,) = spec.search_space.values()
    assert isinstance(searched, protocol.Choice)
    assert searched.choices == [0.25, 1.0]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"state": "running", "params": {}}, "s is running"),
        ({"params": None}, "has no completed trial"),
        ({"params": {}, "objective": {"kind": "external"}}, "trains no family"),
    ],
)
def test_without_a_winner_of_a_family_it_is_said_why_not(
    database: Database, changes: dict[str, Any], why: str
) -> None:
    row = study(database, **changes)
    with pytest.raises(errors.WrongState, match=why):
        made(database, row)


def test_a_name_that_grows_too_long_is_refused(database: Database) -> None:
    row = study(database, "s" * 90, params={})
    with pytest.raises(errors.InvalidRequest, match="under a shorter name"):
        made(database, row)


@pytest.mark.parametrize("asked", ["s", "s-learning-curve"])
def test_the_curve_is_told_of_the_study_and_of_its_learning_curve(
    database: Database, asked: str
) -> None:
    rows = {"s": study(database, params={})}
    rows["s-learning-curve"] = curve = study(
        database, "s-learning-curve", "running", search_space=OF_SHARES
    )
    with database.write() as (session, _):
        trial(session, curve, 0, {"train_share": 1.0}, 0.8)
        trial(session, curve, 1, {"train_share": 0.5}, 0.7)
    with database.read() as session:
        found = learning_curve.result(session, rows[asked])
    assert (found.study, found.metric) == ("s-learning-curve", "accuracy")
    assert [(p.number, p.share, p.rows, p.value) for p in found.points] == [
        (1, 0.5, 40.0, 0.7),
        (0, 1.0, 80.0, 0.8),
    ]
    first = found.points[0]
    assert first.folds == pytest.approx([0.6, 0.8])
    assert (first.train, first.train_folds) == (0.98, [0.97, 0.99])


def test_where_there_is_none_the_command_that_makes_it_is_told(database: Database) -> None:
    rows = [study(database, "my study"), study(database, "s"), study(database, "s-learning-curve")]
    for row, command in zip(rows[:2], ("'my study'", "s"), strict=True):
        with (
            database.read() as session,
            pytest.raises(errors.WrongState, match=f"`hpo study learning-curve {command}`"),
        ):
            learning_curve.of(session, row)
