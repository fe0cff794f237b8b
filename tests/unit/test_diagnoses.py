"""What a study's stored curves say of bias and variance, through the API's own question."""

from __future__ import annotations

from typing import Any

import pytest

from hpo_service import diagnoses, protocol
from hpo_service.database import Database
from hpo_service.tables import Report, Study, Trial
from tests.conftest import START

SPEC: dict[str, Any] = {
    "name": "s",
    "objective": {"kind": "train", "model": "mlp", "dataset": "iris", "metrics": ["accuracy"]},
    "budget": {"trials": 9},
}


@pytest.fixture
def study(database: Database) -> Study:
    row = Study(
        name="s", kind="train", spec=SPEC, directions=["maximize"], state="running", seed=0,
        created_at=START,
    )  # fmt: skip
    with database.write() as (session, _):
        session.add(row)
    return row


APART = (-0.01, -0.005, 0.0, 0.005, 0.01)


def trial(
    database: Database,
    study: Study,
    train: list[float],
    valid: list[float],
    *,
    apart: tuple[float, ...] = APART,
    by_fold: bool = False,
) -> None:
    """A completed trial with its scores epoch by epoch; five folds are a little apart, in training
    as in validation where both are known `by_fold`.
    """
    with database.write() as (session, _):
        row = Trial(
            study_id=study.id, kind="search", number=study.n_trials, state="complete",
            values=[valid[-1]], epoch=len(valid), created_at=START,
        )  # fmt: skip
        study.n_trials += 1
        session.add(row)
        session.flush()
        for at, (shown, value) in enumerate(zip(train, valid, strict=True)):
            folds = [[mean + each for each in apart] for mean in (value, shown)[: 1 + by_fold]]
            session.add(
                Report(
                    trial_id=row.id,
                    attempt=1,
                    step=at + 1,
                    values=[value],
                    by_fold=folds,
                    metrics={"train_accuracy": shown},
                    created_at=START,
                )
            )


def found(database: Database, study: Study) -> protocol.Diagnoses:
    with database.read() as session:
        return diagnoses.of_study(session, study)


def test_each_trial_has_a_diagnosis_and_the_study_that_of_its_winner(
    database: Database, study: Study
) -> None:
    trial(database, study, [0.80, 0.90, 0.95], [0.80, 0.89, 0.94])
    trial(database, study, [0.50, 0.60, 0.61], [0.50, 0.59, 0.60])
    trial(database, study, [0.90, 0.99, 1.00], [0.85, 0.80, 0.70])
    made = found(database, study)
    assert [(each.number, each.kind) for each in made.trials] == [
        (0, "fine"),
        (2, "overfitting"),
        (1, "underfitting"),
    ]
    assert made.study is not None
    assert (made.study.number, made.study.kind) == (0, "fine")
    assert "more layers or units" in made.trials[2].next
    assert "early stopping" in made.trials[1].next


def test_training_and_validation_are_compared_fold_by_fold(
    database: Database, study: Study
) -> None:
    hard_and_easy = (-0.2, -0.1, 0.0, 0.1, 0.2)
    curves = [0.75, 0.78, 0.79], [0.75, 0.74, 0.72]
    trial(database, study, *curves, apart=hard_and_easy, by_fold=True)
    trial(database, study, *curves, apart=hard_and_easy)
    kinds = [each.kind for each in found(database, study).trials]
    assert kinds == ["overfitting", "fine"]


def test_a_trial_that_told_folds_of_training_late_is_diagnosed_by_its_means(
    database: Database, study: Study
) -> None:
    trial(database, study, [0.90, 0.99, 1.00], [0.85, 0.80, 0.70], by_fold=True)
    with database.write() as (session, _):
        first = session.get_one(Report, (1, 1, 1))
        first.by_fold = first.by_fold[:1]
    (made,) = found(database, study).trials
    assert made.kind == "overfitting"


def test_without_a_completed_trial_there_is_nothing_to_tell(
    database: Database, study: Study
) -> None:
    assert found(database, study) == protocol.Diagnoses(study=None, trials=[])


def test_an_external_study_has_no_diagnosis(database: Database, study: Study) -> None:
    trial(database, study, [0.9], [0.9])
    study.spec = None
    assert found(database, study) == protocol.Diagnoses(study=None, trials=[])
