from __future__ import annotations

import math
from typing import Any

import pytest
from sqlalchemy import select

from hpo_service import confirm, final, protocol, ranking, seeds
from hpo_service.cli import results
from hpo_service.database import Database
from hpo_service.tables import Attempt, Report, Study, Trial
from tests.conftest import START

ACCURACY_AND_LOSS = ["maximize", "minimize"]


class Books:
    """A study in the tables, and rows to add to it."""

    def __init__(
        self, database: Database, directions: list[str], objective: dict[str, Any] | None = None
    ) -> None:
        self.database = database
        spec = None
        if objective is not None:
            spec = {
                "name": "s",
                "objective": {"kind": "train", "model": "mlp", "dataset": "iris"} | objective,
                "search_space": {"dropout": {"type": "float", "low": 0.0, "high": 0.5}},
                "budget": {"trials": 9},
            }
        self.study: Study = self._insert(
            Study(
                name="s",
                kind="train" if spec else "external",
                spec=spec,
                directions=directions,
                state="running",
                seed=7,
                created_at=START,
            )
        )

    def trial(self, values: list[Any] | None, state: str = "complete", **columns: Any) -> Trial:
        """The next search row, unless `kind` says otherwise."""
        if columns.setdefault("kind", "search") == "search":
            columns["number"] = self.study.n_trials
            self.study.n_trials += 1
        row = Trial(study_id=self.study.id, state=state, values=values, created_at=START, **columns)
        return self._insert(row)

    def report(self, trial: Trial, step: int, folds: list[list[float | None]]) -> None:
        values = [sum(v or 0.0 for v in fold) / len(fold) for fold in folds]
        self._insert(
            Report(
                trial_id=trial.id,
                attempt=1,
                step=step,
                values=values,
                by_fold=folds,
                created_at=START,
            )
        )

    def told(self, trial: Trial, notes: dict[str, Any]) -> None:
        """How the trial's attempt ended."""
        self._insert(
            Attempt(
                lease_id=str(trial.id),
                trial_id=trial.id,
                attempt=1,
                worker="w",
                token="",
                outcome="told",
                notes=notes,
                started_at=START,
            )
        )

    def _insert(self, row: Any) -> Any:
        with self.database.write() as (session, _):
            session.add(row)
        return row

    def best(self) -> list[int | None]:
        with self.database.read() as session:
            return [trial.number for trial in ranking.best(session, self.study)]

    def winner(self) -> int | None:
        with self.database.read() as session:
            found = final.winner(session, self.study)
            return found.number if found else None

    def refits(self) -> list[protocol.ModelSetting]:
        with self.database.read() as session:
            return final.refits(session, self.study)

    def result(self) -> protocol.Final:
        with self.database.read() as session:
            return final.result(session, self.study)


def judged(books: Books, served: dict[str, Any], ensemble: dict[str, Any] | None = None) -> None:
    """What the final row's attempt noted."""
    with books.database.read() as session:
        last = session.scalars(select(Trial).where(Trial.kind == "final")).one()
    books.told(last, {"served": served} | ({"ensemble": ensemble} if ensemble else {}))


TOGETHER = {
    "kind": "greedy",
    "metric": "accuracy",
    "weights": {"0": 0.25, "1": 0.75},
    "score": 0.93,
    "alone": 0.9,
    "standard_error": 0.012,
    "served": True,
}


def estimate(name: str, value: float, rows: int = 30) -> dict[str, Any]:
    return protocol.Estimate(
        name=name, metric="accuracy", value=value, low=0.8, high=1.0, method="Wilson", rows=rows
    ).model_dump(mode="json")


def finished(database: Database, *served: float, **objective: Any) -> Books:
    """A study of two trials and a baseline, refitted and scored on held-out rows; so is what is
    `served`, where that is not the winner.
    """
    books = Books(
        database, ["maximize"], {"metrics": ["accuracy"], "params": {"epochs": 9}} | objective
    )
    books.trial([0.8], params={"dropout": 0.1}, epoch=9)
    first = books.trial([0.9], params={"dropout": 0.2}, epoch=4)
    base = books.trial([0.85], kind="baseline", model="logistic_regression", epoch=1)
    books.report(first, 3, [[0.7, 0.7, 0.7]])
    books.report(first, 4, [[0.8, 0.9, 1.0]])
    books.report(base, 1, [[0.8, 0.85, 0.9]])
    told = [estimate("served", value) for value in served]
    told += [estimate("winner", 0.88), estimate("logistic_regression", 0.86)]
    books.trial([0.88], kind="final", estimates=told)
    return books


def test_ties_are_broken_by_log_loss_then_by_number(database: Database) -> None:
    books = Books(database, ["maximize"])
    for value, loss in ((0.9, 0.4), (0.9, None), (0.9, 0.3), (0.9, 0.3), (0.8, 0.1)):
        books.trial([value], metrics={"log_loss": loss, "train_loss": 0.0})
    assert (books.winner(), books.best()) == (2, [2])


def test_the_result_says_what_is_pooled(database: Database) -> None:
    books = finished(database)
    assert not any("Pooled" in note for note in books.result().notes)
    books.told(books.trial([0.95], params={}, epoch=1), {"pooled": ["accuracy", "roc_auc"]})
    assert any("Pooled: accuracy, roc_auc" in note for note in books.result().notes)


# --- the winner -----------------------------------------------------------------------------


@pytest.mark.parametrize(("direction", "number"), [("maximize", 2), ("minimize", 1)])
def test_the_winner_is_the_best_in_the_studys_direction(
    database: Database, direction: str, number: int
) -> None:
    books = Books(database, [direction])
    for value in (0.5, 0.1, 0.9):
        books.trial([value])
    assert (books.winner(), books.best()) == (number, [number])


def test_of_equals_the_lower_number_wins(database: Database) -> None:
    books = Books(database, ["maximize"])
    for value in (0.5, 0.9, 0.9):
        books.trial([value])
    assert (books.winner(), books.best()) == (1, [1])


def test_only_completed_search_rows_with_a_number_count(database: Database) -> None:
    books = Books(database, ["maximize"])
    books.trial([0.1])
    books.trial([0.9], state="pruned")
    books.trial(None, state="fail")
    books.trial([math.nan])
    books.trial([None])
    books.trial([0.99], kind="baseline", model="ridge")
    assert books.winner() == 0


def test_nobody_wins_where_nothing_completed(database: Database) -> None:
    books = Books(database, ["maximize"], {"metrics": ["accuracy"]})
    books.trial(None, state="fail")
    result = books.result()
    assert (books.winner(), books.best(), books.refits()) == (None, [], [])
    assert (result.state, result.winner) == ("none", None)
    assert result.notes == ["No trial has completed, so there is no winner."]


def test_several_values_have_a_pareto_set_and_the_first_decides(database: Database) -> None:
    books = Books(database, ACCURACY_AND_LOSS)
    for values in ([0.9, 0.5], [0.8, 0.2], [0.9, 0.6], [0.7, 0.3], [0.8, 0.2], [0.95, 0.9]):
        books.trial(values)
    assert books.best() == [0, 1, 4, 5]
    assert books.winner() == 5


# --- the final row --------------------------------------------------------------------------


def test_the_winner_and_completed_baselines_are_refitted(database: Database) -> None:
    books = finished(database)
    books.trial(None, state="fail", kind="baseline", model="ridge")
    winner, baseline = books.refits()
    assert winner == protocol.ModelSetting(
        name="winner",
        model="mlp",
        params={"epochs": 9, "dropout": 0.2},
        epochs=4,
        seed=seeds.trial_seed(7, 1),
        number=1,
        values=[0.9],
    )
    assert (baseline.name, baseline.model, baseline.epochs) == (*["logistic_regression"] * 2, 1)
    assert baseline.seed == seeds.baseline_seed(7, "logistic_regression")


def test_the_result_puts_all_scores_side_by_side(database: Database) -> None:
    result = finished(database).result()
    assert (result.state, result.metrics) == ("complete", ["accuracy"])
    assert result.winner is not None
    assert result.winner.folds == [[0.8, 0.9, 1.0]]
    assert result.winner.spread == pytest.approx([0.1])
    assert result.winner.params == {"epochs": 9, "dropout": 0.2}
    assert [e.value for e in result.winner.held_out] == [0.88]
    (baseline,) = result.baselines
    assert (baseline.name, baseline.values) == ("logistic_regression", [0.85])
    assert baseline.spread == pytest.approx([0.05])
    assert [e.value for e in baseline.held_out] == [0.86]


def test_the_notes_say_what_a_reader_should_know(database: Database) -> None:
    notes = " ".join(finished(database).result().notes)
    assert "optimistic: it was chosen as the best of 2 trials" in notes
    assert "0.02" not in notes
    assert "30 rows that no search worker was sent" in notes
    assert "wide intervals" in notes


def test_held_out_rows_that_score_again_are_counted(database: Database) -> None:
    books = finished(database)
    with database.write() as (session, now):
        session.get_one(Study, books.study.id).holdout_sha256 = "a" * 64
    books.study.holdout_sha256 = "a" * 64
    assert books.result().held_out_uses == 1
    with database.write() as (session, now):
        for name in ("second", "third"):
            study = Study(
                name=name, kind="train", directions=["maximize"], state="finished", seed=0,
                holdout_sha256="a" * 64, created_at=now,
            )  # fmt: skip
            session.add(study)
            session.flush()
            session.add(Trial(study_id=study.id, kind="final", state="complete", created_at=now))
    result = books.result()
    assert result.held_out_uses == 3
    assert "They have scored 3 studies of this data by now" in " ".join(result.notes)


def test_an_outer_fold_is_said_to_be_one_of_several(database: Database) -> None:
    result = finished(database, outer={"folds": 5, "fold": 2}).result()
    assert any("fold 2 of 5 of a nested cross-validation" in note for note in result.notes)


def test_a_chosen_epoch_is_said_to_be_optimistic_too(database: Database) -> None:
    notes = " ".join(finished(database, params={"patience": 3}).result().notes)
    assert "So was its epoch, 4, one for all folds: that alone adds about 0.02" in notes


def test_without_held_out_rows_the_notes_say_so(database: Database) -> None:
    assert '"holdout": 0' in finished(database, holdout=0.0).result().notes[-1]


# --- what is served -------------------------------------------------------------------------


def test_an_ensemble_that_is_served_is_what_the_study_is_worth(database: Database) -> None:
    books = finished(database, 0.91)
    judged(books, {"kind": "ensemble", "reason": "it is better"}, TOGETHER)
    result = books.result()
    assert result.served is not None
    assert [each.value for each in result.served.held_out] == [0.91]
    assert result.estimate is not None
    assert (result.estimate.name, result.estimate.value) == ("served", 0.91)
    assert result.winner is not None
    assert [each.value for each in result.winner.held_out] == [0.88]
    notes = " ".join(result.notes)
    assert "0.9300 as a weighted mean of 2, 0.9000 alone, corrected standard error" in notes
    assert "Served is a weighted mean of 2 trials, each refitted" in notes
    assert "since it is better." in notes
    assert "optimistic: its members" not in notes
    shown = results.score_table(result, 0)
    assert list(shown.columns[0].cells)[1] == "mlp (2 trials together, served)"
    assert [list(column.cells)[1] for column in shown.columns[1:4]] == ["0.9300", "-", "0.9100"]


def test_without_held_out_rows_the_score_of_an_ensemble_is_said_to_be_optimistic(
    database: Database,
) -> None:
    books = Books(database, ["maximize"], {"metrics": ["accuracy"], "holdout": 0.0})
    books.trial([0.9], params={}, epoch=1)
    books.trial([0.9], kind="final")
    judged(books, {"kind": "ensemble", "reason": "the study asks for it"}, TOGETHER)
    assert (
        "On folds left out its accuracy is 0.9300, which is optimistic" in books.result().notes[-1]
    )


def test_the_folds_of_the_winner_are_said_to_be_refitted_not_at_all(database: Database) -> None:
    books = finished(database, 0.9)
    judged(books, {"kind": "folds", "reason": "the study asks for it"})
    notes = " ".join(books.result().notes)
    assert "Served is the mean of the models that the winner's folds left" in notes
    assert "the folds' models as they were, baselines refitted" in notes


def test_a_winner_served_alone_is_said_why(database: Database) -> None:
    books = finished(database)
    judged(books, {"kind": "single", "reason": "several metrics are optimised"})
    result = books.result()
    wanted = "Served is the winner, refitted on all rows of the search, since several metrics are"
    assert result.notes[-1] == f"{wanted} optimised."
    assert result.estimate is not None
    assert (result.estimate.name, len(list(results.shown(result)))) == ("winner", 2)


@pytest.mark.parametrize("state", ["waiting", "running", "fail"])
def test_no_held_out_score_before_the_end(database: Database, state: str) -> None:
    books = Books(database, ["maximize"], {"metrics": ["accuracy"]})
    books.trial([0.9])
    books.trial(
        None,
        kind="final",
        state=state,
        estimates=[estimate("winner", 0.5)],
        error_reason="oom" if state == "fail" else None,
    )
    result = books.result()
    assert result.state == state
    assert result.winner is not None
    assert result.winner.held_out == []
    assert (result.error is not None) == (state == "fail")


def test_an_infinite_value_of_an_optuna_client_does_no_harm(database: Database) -> None:
    books = Books(database, ["maximize"])
    books.trial([math.inf])
    result = books.result()
    assert result.winner is not None
    assert (result.winner.number, result.winner.values) == (0, None)


def test_seeds_differ_and_stay() -> None:
    found = {seeds.trial_seed(s, n) for s in range(20) for n in range(20)}
    assert len(found | {seeds.baseline_seed(0, "ridge"), seeds.baseline_seed(0, "mlp")}) == 402
    assert all(0 <= seed <= protocol.MAX_INT for seed in found)
    assert seeds.trial_seed(0, 0) == 3973246203840053828


# --- fresh folds ----------------------------------------------------------------------------


def searched(database: Database, values: list[float], **objective: Any) -> Books:
    """A study whose trials are complete, the first with the family's default."""
    books = Books(database, ["maximize"], {"metrics": ["accuracy"]} | objective)
    for at, value in enumerate(values):
        attrs = {"default": True} if at == 0 else {}
        books.trial([value], params={"dropout": at / 100}, epoch=3, system_attrs=attrs)
    return books


def confirmed(books: Books) -> list[Trial]:
    """The confirm rows that the study gets."""
    with books.database.write() as (session, now):
        study = session.get_one(Study, books.study.id)
        study.n_trials = books.study.n_trials
        confirm.start(session, now, study)
    with books.database.read() as session:
        return confirm._rows(session, study)


def tell(books: Books, row: Trial, folds: list[float | None]) -> None:
    """What a worker found on fresh folds."""
    books.report(row, 3, [folds])
    with books.database.write() as (session, _):
        stored = session.get_one(Trial, row.id)
        stored.state, stored.values = "complete", [sum(v or 0.0 for v in folds) / len(folds)]


def test_the_best_five_and_the_default_are_tried_on_fresh_folds(database: Database) -> None:
    books = searched(database, [0.5, *(0.7 + n / 100 for n in range(59))])
    base = books.trial([0.8], kind="baseline", model="ridge", params={}, epoch=1)
    rows = confirmed(books)
    assert [row.system_attrs[confirm.OF] for row in rows] == [59, 0, 58, 57, 56, 55, "ridge"]
    assert {row.system_attrs[confirm.REPEATED] for row in rows} == {2}
    assert [row.number for row in rows] == [None] * 7
    assert (rows[0].params, rows[0].epoch, rows[-1].model) == ({"dropout": 0.59}, 3, base.model)
    assert len(confirmed(books)) == 7, "only once"


@pytest.mark.parametrize(
    ("trials", "folds", "repeats", "rows", "again"),
    [
        (4, 5, 1, 0, 0),  # a fifth is 4 trainings: less than two settings on five folds
        (10, 5, 1, 2, 1),
        (29, 5, 1, 5, 1),
        (30, 5, 1, 3, 2),
        (60, 5, 1, 6, 2),
        (10, 5, 3, 3, 2),
        (10, 10, 1, 4, 1),
        (10, 3, 1, 2, 1),
    ],
)
def test_fresh_folds_cost_a_fifth_of_the_search_at_most(
    database: Database, trials: int, folds: int, repeats: int, rows: int, again: int
) -> None:
    validation = {"folds": folds, "repeats": repeats}
    books = searched(database, [n / 100 for n in range(trials)], validation=validation)
    found = confirmed(books)
    given = protocol.Validation(folds=folds, repeats=repeats)
    assert len(found) == rows
    fits = [confirm.validation(row, given) for row in found]
    assert all((v.repeats, v.folds) == (again, min(5, folds)) for v in fits)
    assert sum(v.repeats * v.folds for v in fits) <= 0.2 * trials * folds * repeats


def test_a_hold_out_is_drawn_anew_as_often_as_there_would_be_folds(database: Database) -> None:
    given = {"method": "hold_out", "share": 0.3}
    books = searched(database, [n / 100 for n in range(50)], validation=given)
    validation = protocol.Validation(method="hold_out", share=0.3)
    fits = [confirm.validation(row, validation) for row in confirmed(books)]
    assert {(v.method, v.share, v.repeats) for v in fits} == {("hold_out", 0.3, 5)}
    assert len(fits) * 5 <= 0.2 * 50


def test_folds_in_time_are_the_same_again(database: Database) -> None:
    given = {"method": "time_series", "folds": 4}
    rows = confirmed(searched(database, [n / 100 for n in range(30)], validation=given))
    validation = protocol.Validation(method="time_series", folds=4)
    assert [confirm.validation(row, validation) for row in rows] == [validation] * 6


def test_the_mean_on_fresh_folds_alone_decides(database: Database) -> None:
    books = searched(database, [0.80, *(n / 100 for n in range(30)), 0.90, 0.95])
    best, default, second = confirmed(books)
    assert books.winner() == 32, "until the fresh folds have spoken"
    tell(books, best, [0.80, 0.82, 0.84])
    tell(books, default, [0.79, 0.80, 0.81])
    tell(books, second, [0.85, 0.86, 0.90])
    assert (books.best(), books.winner()) == ([32], 31)
    (setting,) = books.refits()
    assert (setting.params, setting.values, setting.epochs) == ({"dropout": 0.31}, [0.90], 3)
    result = books.result()
    assert result.winner is not None
    assert result.winner.number == 31
    assert result.winner.fresh is not None
    assert result.winner.fresh.values == pytest.approx([0.87])
    assert result.winner.fresh.folds == [[0.85, 0.86, 0.90]]
    assert [(s.name, s.default) for s in result.confirmed] == [
        ("trial 0", True),
        ("winner", False),
        ("trial 32", False),
    ]
    notes = " ".join(result.notes)
    assert "by its mean over 3 fresh folds, on which 3 trials" in notes
    # Differences .06, .06, .09: mean .07, deviation .0173, times sqrt(1/3 + 1/4).
    assert "gained 0.07 over the family's default on the fresh folds (standard error 0.013" in notes


def test_the_default_may_win(database: Database) -> None:
    books = searched(database, [n / 100 for n in range(30)])
    for row in confirmed(books):
        tell(books, row, [0.9 if row.system_attrs[confirm.OF] == 0 else 0.8] * 2)
    assert books.winner() == 0
    assert "Tuning did not beat the family's default" in " ".join(books.result().notes)


def test_a_confirmation_that_fails_leaves_the_choice_to_the_others(database: Database) -> None:
    books = searched(database, [n / 100 for n in range(30)])
    rows = confirmed(books)
    with database.write() as (session, _):
        for row in rows:
            session.get_one(Trial, row.id).state = "fail"
    assert books.winner() == 29
    tell(books, rows[-1], [0.1, 0.2])
    assert books.winner() == rows[-1].system_attrs[confirm.OF]


def test_several_metrics_are_not_confirmed(database: Database) -> None:
    books = Books(database, ACCURACY_AND_LOSS, {"metrics": ["accuracy", "log_loss"]})
    for n in range(30):
        books.trial([n / 100, 1.0])
    assert confirmed(books) == []


# --- the smallest of equals -----------------------------------------------------------------


def test_the_smallest_network_within_a_standard_error_may_be_selected(database: Database) -> None:
    books = Books(database, ["maximize"], {"metrics": ["accuracy"]})
    books.study.spec["select"] = "one_standard_error"
    folds = {
        0: ([0.90, 0.91, 0.92, 0.93, 0.94], 9000),
        1: ([0.91, 0.90, 0.92, 0.92, 0.94], 300),
        2: ([0.80, 0.81, 0.82, 0.83, 0.84], 20),
    }
    for values, size in folds.values():
        mean = sum(values) / 5
        row = books.trial([mean], params={"dropout": 0.1}, epoch=3, metrics={"parameters": size})
        books.report(row, 3, [[*values]])
    assert (books.best(), books.winner()) == ([0], 1)
    assert confirmed(books) == []
    notes = " ".join(books.result().notes)
    assert "smallest network within one corrected standard error of trial 0, which scored" in notes
