"""What every pruner must do, also where nothing is finite, and with several metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hpo_service import errors
from hpo_service.database import Database
from hpo_service.pruners import PRUNERS, Facts
from tests.searching import Bench

FOLDS, EPOCHS, TRIALS, STEPS = 6, 30, 9, 7
KNOWN = Facts(folds=FOLDS, ratio=0.2, epochs=EPOCHS)

Curves = NDArray[np.float64]


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


def pruner(name: str) -> dict[str, Any]:
    """The pruner with options that it cannot be without."""
    (given,) = PRUNERS[name].options.model_json_schema().get("examples", [{}])
    return {"name": name, **given}


def racing(bench: Bench, pruner: dict[str, Any], n_trials: int, *directions: str) -> list[int]:
    """So many running trials of a study that knows its epochs and folds."""
    objective = {
        "kind": "custom",
        "name": "module:function",
        "dataset": "digits",
        "directions": list(directions or ["minimize"]),
        "params": {"epochs": EPOCHS},
        "validation": {"folds": FOLDS},
    }
    bench.study("custom", pruner=pruner, objective=objective, name=str(directions))
    return [bench.row() for _ in range(n_trials)]


def curves(metrics: int = 1) -> Curves:
    """Losses (trials, steps, metrics, folds) that fall; the first trial's are the lowest."""
    rng = np.random.default_rng(0)
    falling = np.linspace(2, 1, STEPS)[:, None, None]
    apart = np.linspace(0, 1, TRIALS)[:, None, None, None]
    noise = rng.normal(0, 0.02, (TRIALS, STEPS, metrics, FOLDS))
    return np.asarray(np.round(falling + apart + noise, 6))


def run(bench: Bench, trials: list[int], losses: Curves, signs: tuple[int, ...] = (1,)) -> Any:
    """Every trial step by step until it is told to end; most of them before the others begin.

    Returns the last step of each.
    """
    values, last = losses * np.array(signs)[:, None], {}
    for group in (trials[:6], trials[6:]):
        left = list(group)
        for step in range(1, losses.shape[1] + 1):
            points = [_point(values[trials.index(t), step - 1], t, step) for t in left]
            actions = bench.judge(*points)
            last |= dict.fromkeys(left, step)
            for trial, action in zip(tuple(left), actions, strict=True):
                if action == "prune":
                    left.remove(trial)
        for trial in left:
            ended = values[trials.index(trial), -1].mean(1)
            bench.update(trial, state="complete", values=ended.tolist())
    return [last[trial] for trial in trials]


def _point(of_folds: Curves, trial: int, step: int) -> tuple[Any, ...]:
    return trial, step, of_folds.mean(1).round(9).tolist(), of_folds.tolist()


@pytest.mark.parametrize("name", PRUNERS)
class TestEveryPruner:
    def test_it_answers_every_point_also_where_nothing_is_finite(
        self, bench: Bench, name: str
    ) -> None:
        trials = racing(bench, pruner(name), 8)
        for step in range(1, 9):
            actions = bench.judge(*((t, step, None, [None] * FOLDS) for t in trials))
            assert set(actions) <= {"continue", "prune"}
        for trial in trials[:-1]:
            bench.update(trial, state="complete", values=[0.0])
        assert bench.judge((trials[-1], 9, None))[0] in ("continue", "prune")

    @pytest.mark.parametrize("metrics", [1, 2])
    def test_the_best_trial_comes_to_its_end_whichever_way_is_better(
        self, database: Database, name: str, metrics: int
    ) -> None:
        last = []
        for direction, sign in (("minimize", 1), ("maximize", -1)):
            bench, directions = Bench(database), ["minimize", direction][-metrics:]
            given = listed(mirrored(pruner(name), sign if metrics == 1 else 1), metrics)
            trials = racing(bench, given, TRIALS, *directions)
            last.append(run(bench, trials, curves(metrics), (1, sign)[-metrics:]))
        assert last[0] == last[1]
        assert last[0][0] == STEPS
        others_count = name not in ("none", "patience", "threshold")
        assert (min(last[0]) < STEPS) == others_count

    def test_a_batch_is_judged_as_its_points_would_be_alone(
        self, database: Database, name: str
    ) -> None:
        batch, alone = Bench(database), Bench(database)
        together = racing(batch, pruner(name), TRIALS, "minimize")
        losses = curves()[:, :4]
        # Another name, as names are unique.
        apart = racing(alone, pruner(name), TRIALS, "maximize")
        at_once = batch.judge(*points(together, losses))
        left, one_by_one = set(apart), []
        for point in points(apart, -losses):
            action = alone.judge(point)[0] if point[0] in left else "prune"
            left -= {point[0]} if action == "prune" else set()
            one_by_one.append(action)
        if name != "threshold":  # its bounds are of values
            assert at_once == one_by_one

    def test_a_decision_stands_in_the_next_attempt(self, bench: Bench, name: str) -> None:
        """Also one on a value that the next attempt does not have again."""
        trials = racing(bench, pruner(name), TRIALS)
        last = run(bench, trials, curves())
        for trial in (t for t, step in zip(trials, last, strict=True) if step < STEPS):
            step = last[trials.index(trial)]
            bench.attempt(trial, 1)
            bench.attempt(trial, 2)
            again = [(trial, at, 0.0, [0.0] * FOLDS) for at in (step - 1, step) if at]
            assert bench.judge(*again, attempt=2)[-1] == "prune"

    def test_unknown_options_are_refused_by_name(self, name: str) -> None:
        with pytest.raises(errors.InvalidRequest) as refused:
            PRUNERS[name].check({"mercy": 1}, KNOWN)
        assert "pruner.mercy" in [field.field for field in refused.value.fields]


def points(trials: list[int], losses: Curves) -> list[tuple[Any, ...]]:
    steps = range(losses.shape[1])
    return [_point(losses[i, s], t, s + 1) for s in steps for i, t in enumerate(trials)]


def listed(given: dict[str, Any], metrics: int) -> dict[str, Any]:
    """With bounds of each metric."""
    bounds = ("lower", "upper") if metrics > 1 else ()
    return {name: [v] * metrics if name in bounds else v for name, v in given.items()}


def mirrored(given: dict[str, Any], sign: int) -> dict[str, Any]:
    """With bounds of negative values."""
    if sign == 1 or "upper" not in given:
        return given
    return {"name": given["name"], "lower": -given["upper"]}


def test_rows_that_are_not_part_of_the_search_are_never_pruned(bench: Bench) -> None:
    best, baseline = racing(bench, {"name": "asha"}, 2)
    bench.update(baseline, kind="baseline", number=None)
    assert bench.judge((best, 2, 0.0), (baseline, 2, 9.0)) == ["continue", "continue"]


def test_what_an_attempt_reported_before_the_next_began_anew_counts_no_more(bench: Bench) -> None:
    first, second, third = racing(bench, {"name": "asha"}, 3)
    bench.attempt(first, 1)
    bench.judge((first, 2, 0.0))
    bench.attempt(first, 2)
    assert bench.judge((second, 2, 1.0)) == ["continue"]
    bench.judge((first, 2, 5.0), attempt=2)
    assert bench.judge((third, 2, 2.0)) == ["prune"]


def test_trials_that_end_meanwhile_are_seen_at_steps_that_were_asked_for_before(
    bench: Bench,
) -> None:
    first, second, third = racing(bench, {"name": "asha", "min_resource": 1}, 3)
    assert bench.judge((second, 1, 2.0)) == ["continue"]
    bench.judge((first, 1, 1.0))
    bench.update(first, state="complete", values=[1.0])
    bench.update(second, state="fail")
    assert bench.judge((third, 1, 1.5)) == ["prune"]
