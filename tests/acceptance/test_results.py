"""What a finished study of real workers can be trusted with."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray
from optuna.trial import TrialState
from safetensors.numpy import load_file
from sklearn import datasets
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hpo_service import errors, nested, protocol
from hpo_service.database import Database
from hpo_service.storage import Storage
from tests.acceptance.conftest import PATIENCE, Fleet, wait_for

Floats = NDArray[np.float64]


def spec(name: str, holdout: float = 0.2, **more: Any) -> protocol.StudySpec:
    given = {
        "name": name,
        "objective": {
            "kind": "train",
            "model": "mlp",
            "dataset": "wine",
            "params": {"epochs": 8},
            "validation": {"folds": 3},
            "holdout": holdout,
            "baselines": ["logistic_regression"],
        },
        "pruner": {"name": "asha"},
        "budget": {"trials": 8},
    }
    return protocol.StudySpec.model_validate(given | more)


def history(fleet: Fleet, study: str) -> list[Any]:
    """Parameters, state and curve of each trial."""
    return [
        (
            trial.params,
            trial.state,
            trial.values,
            [(p.step, p.values, p.action) for p in fleet.client.curve(study, number).points],
        )
        for number, trial in enumerate(fleet.client.trials(study, limit=500).trials)
    ]


def test_one_worker_repeats_a_study_exactly(running: Fleet) -> None:
    for name in ("first", "second"):
        running.finish(spec(name))
    assert history(running, "first") == history(running, "second")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_best_trials_are_confirmed_on_fresh_folds(fleet: Fleet) -> None:
    fleet.serve()
    fleet.client.create_study(
        spec("confirmed", 0.0, budget={"trials": 20}, pruner={"name": "none"})
    )
    assert fleet.work("--study", "confirmed", "--once", "--pack", "8").wait(PATIENCE) == 0
    assert fleet.finished("confirmed")
    result = fleet.client.final("confirmed")
    # 3 x 20 trainings allow for 12 more: 4 settings on 3 folds.
    assert len(result.confirmed) == 4
    assert [each.default for each in result.confirmed] == [True, False, False, False]
    means = {each.number: each.fresh.values[0] for each in result.confirmed if each.fresh}
    assert result.winner is not None
    assert means[result.winner.number] == max(means.values())
    for each in result.confirmed:
        assert each.fresh is not None
        assert each.fresh.folds != each.folds
        assert each.fresh.values == pytest.approx([statistics.mean(each.fresh.folds[0])])
    assert fleet.client.study("confirmed").n_trials == 20
    assert result.verdict is not None
    assert (result.verdict.baseline, result.verdict.metric) == ("logistic_regression", "accuracy")
    assert result.verdict.answer != "better"
    assert result.ensemble is not None
    assert sum(result.ensemble.weights.values()) == pytest.approx(1)
    assert result.estimate is not None
    (best,) = fleet.client.best("confirmed")
    assert (result.estimate.kind, result.estimate.rows) == ("bootstrap_cv", 178)
    assert result.estimate.value < best.values[0]


def test_nested_cross_validation_scores_every_row_once(running: Fleet) -> None:
    objective = {
        "kind": "train",
        "model": "logistic_regression",
        "dataset": "wine",
        "record": ["log_loss"],
        "validation": {"folds": 3},
    }
    asked = {"name": "whole", "objective": objective, "budget": {"trials": 3}}
    nested.create(running.client, protocol.StudySpec.model_validate(asked), 3)
    names = [nested.study_name("whole", fold) for fold in range(3)]
    wait_for(lambda: all(map(running.finished, names)))
    found = {(each.name, each.metric): each for each in nested.estimates(running.client, "whole")}
    accuracy, loss = found["winner", "accuracy"], found["winner", "log_loss"]
    assert accuracy.rows == loss.rows == 178
    held_out = [running.client.final(name).estimate for name in names]
    assert accuracy.folds == tuple(each.value for each in held_out if each)
    assert accuracy.value == pytest.approx(statistics.mean(accuracy.folds))
    assert 0.9 < accuracy.low < accuracy.value < accuracy.high < 1
    assert loss.low < loss.value < loss.high
    assert ("naive_bayes", "accuracy") in found


def test_no_cache_of_a_worker_holds_a_held_out_row(running: Fleet) -> None:
    # No other study here has these rows, which would be searched on where nothing is held out.
    objective = {"kind": "train", "model": "naive_bayes", "dataset": "breast_cancer"}
    asked = {"name": "held-out", "objective": objective | {"holdout": 0.2, "baselines": False}}
    running.finish(protocol.StudySpec.model_validate(asked | {"budget": {"trials": 2}}))
    search, held_out = sorted(map(rows, blobs(running, columns=30)), key=len, reverse=True)
    assert len(held_out) == round(0.2 * 569)
    assert not search & held_out
    cached = [p.read_bytes() for p in (running.folder / "cache").rglob("*") if p.is_file()]
    assert any(row in content for row in search for content in cached)
    assert not any(row in content for row in held_out for content in cached)
    assert running.client.final("held-out").winner is not None


def blobs(fleet: Fleet, columns: int) -> list[Floats]:
    """The stored tables with so many numeric columns."""
    paths = [p for p in (fleet.folder / "data" / "sha256").rglob("*") if p.is_file()]
    tables = [load_file(p)["numeric"] for p in paths if b'"numeric"' in p.read_bytes()[:4096]]
    return [table for table in tables if table.shape[1] == columns]


def rows(table: Floats) -> set[bytes]:
    return {row.tobytes() for row in table}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_optuna_reads_a_finished_study(running: Fleet) -> None:
    running.finish(spec("bridge"))
    database = Database(running.database_url)
    loaded = optuna.load_study(study_name="bridge", storage=Storage(database))
    assert len(loaded.trials) == 8
    assert loaded.best_value == running.client.best("bridge")[0].values[0]
    axes = optuna.visualization.matplotlib.plot_optimization_history(loaded)
    drawn = axes.collections[0].get_offsets()
    assert len(drawn) == len(loaded.get_trials(states=[TrialState.COMPLETE]))
    database.close()


@pytest.mark.parametrize(
    ("model", "dataset", "name", "best", "at"),
    [
        ("logistic_regression", "wine", "C", 0.9943, -1.25),
        ("ridge", "diabetes", "alpha", 0.4896, 0.25),
    ],
)
def test_a_grid_over_a_deterministic_model_gives_the_known_answer(
    running: Fleet, model: str, dataset: str, name: str, best: float, at: float
) -> None:
    """Every point of the grid scores what scikit-learn gives on its own folds, seed 0."""
    study = protocol.StudySpec.model_validate(
        {
            "name": f"grid-{model}",
            "objective": {
                "kind": "train",
                "model": model,
                "dataset": dataset,
                "holdout": 0,
                "baselines": False,
            },
            "search_space": {name: {"type": "float", "low": 1e-4, "high": 1e4, "log": True}},
            "sampler": {"name": "grid", "points": {name: 33}},
            "budget": {"trials": 40},
        }
    )
    ended = running.finish(study)
    assert (ended.n_trials, ended.ended_by) == (33, "space")
    (winner,) = running.client.best(study.name)
    assert round(winner.values[0], 4) == best
    found: dict[float, protocol.Trial] = {
        round(float(np.log10(trial.params[name])), 9): trial  # type: ignore[arg-type]
        for trial in running.client.trials(study.name, limit=500).trials
    }
    for exponent, trial in found.items():
        assert trial.values == pytest.approx([expected(dataset, 10.0**exponent)], abs=1e-9)
    assert found[at].values == pytest.approx(winner.values, abs=1e-12)
    # Of settings as accurate as each other the one with the lower log loss is the best.
    tied = [trial for trial in found.values() if trial.values == winner.values]
    assert winner.number == min(tied, key=lambda t: t.metrics.get("log_loss", 0.0) or 0.0).number


def expected(dataset: str, setting: float) -> float:
    """What scikit-learn alone gives."""
    if dataset == "wine":
        rows, model = datasets.load_wine(), LogisticRegression(C=setting, max_iter=1000)
        folds = StratifiedKFold(5, shuffle=True, random_state=0)
    else:
        rows, model = datasets.load_diabetes(), Ridge(alpha=setting)
        folds = KFold(5, shuffle=True, random_state=0)
    scaled = make_pipeline(StandardScaler(), model)
    return float(cross_val_score(scaled, rows.data, rows.target, cv=folds).mean())


def test_a_generator_leaves_rows_to_look_at(running: Fleet) -> None:
    study = {
        "name": "rows",
        "objective": {
            "kind": "train",
            "model": "gan",
            "dataset": "iris",
            "params": {"epochs": 5},
            "validation": {"folds": 2},
        },
        "budget": {"trials": 2},
    }
    running.finish(protocol.StudySpec.model_validate(study))
    left = [each.name for each in running.client.final_artifacts("rows").artifacts]
    assert left == ["model", "samples.csv"]
    lines = running.client.final_artifact("rows", "samples.csv").decode().splitlines()
    assert len(lines) == 201
    assert "petal length (cm)" in lines[0]
    with pytest.raises(errors.NotFound, match=r"take one of model, samples\.csv"):
        running.client.final_artifact("rows", "no-such")


def test_a_learning_curve_tells_what_more_rows_bring(running: Fleet) -> None:
    client = running.client
    search = {
        "kind": "train",
        "model": "logistic_regression",
        "dataset": "digits",
        "validation": {"folds": 3},
        "baselines": False,
    }
    client.create_study(
        spec("shares", objective=search, pruner={"name": "none"}, budget={"trials": 2})
    )
    asked = protocol.LearningCurveSpec(shares=[0.05, 0.3, 1.0])
    wait_for(lambda: running.finished("shares"))
    made = client.create_learning_curve("shares", asked)
    with pytest.raises(errors.NameTaken):
        client.create_learning_curve("shares", asked)
    wait_for(lambda: running.finished(made.name))

    curve = client.learning_curve("shares")
    assert [(point.share, point.rows) for point in curve.points] == [
        (share, pytest.approx(share * 1438 * 2 / 3, abs=1)) for share in asked.shares
    ]
    few, _, every = curve.points
    assert few.value < 0.9 < every.value
    assert few.train == 1.0
    # The whole rows, on the same folds: the winner's own score.
    winner = client.final("shares").winner
    assert winner is not None
    assert (every.value, every.folds) == (winner.values[0], winner.folds[0])
    assert client.final(made.name).state == "none"
    for study in ("shares", made.name):
        assert client.plot(study, "learning_curve").startswith(b"\x89PNG")
