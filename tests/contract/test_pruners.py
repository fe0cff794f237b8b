"""What every pruner must do, and where the two real ones end a trial."""

from __future__ import annotations

from typing import Any

import pytest

from hpo_service import errors
from hpo_service.database import Database
from hpo_service.pruners import PRUNERS, Facts
from tests.searching import Bench

KNOWN = Facts(folds=5, ratio=0.25, epochs=30)


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


def racing(bench: Bench, pruner: dict[str, Any], n_trials: int) -> list[int]:
    """So many running trials of a study that minimises."""
    bench.study(pruner=pruner)
    return [bench.row() for _ in range(n_trials)]


@pytest.mark.parametrize("name", PRUNERS)
class TestEveryPruner:
    def test_it_answers_every_point_also_where_nothing_is_finite(
        self, bench: Bench, name: str
    ) -> None:
        trials = racing(bench, {"name": name}, 8)
        for step in range(1, 9):
            actions = bench.judge(*((t, step, None) for t in trials))
            assert set(actions) <= {"continue", "prune"}
        for trial in trials[:-1]:
            bench.update(trial, state="complete", values=[0.0])
        assert bench.judge((trials[-1], 9, None))[0] in ("continue", "prune")

    def test_unknown_options_are_refused_by_name(self, name: str) -> None:
        with pytest.raises(errors.InvalidRequest) as refused:
            PRUNERS[name].check({"mercy": 1}, KNOWN)
        assert "pruner.mercy" in [field.field for field in refused.value.fields]


def test_asha_lets_one_in_three_past_each_rung(bench: Bench) -> None:
    trials = racing(bench, {"name": "asha"}, 6)
    assert bench.judge(*((t, 1, float(t)) for t in trials)) == ["continue"] * 6
    # Each point sees those before it in the batch: the best is first, so no other gets through.
    assert bench.judge(*((t, 2, float(t)) for t in trials)) == ["continue"] + ["prune"] * 5
    assert bench.judge((trials[0], 3, 0.0), (trials[0], 6, 0.0)) == ["continue", "continue"]


def test_a_batch_is_judged_as_its_points_would_be_alone(database: Database) -> None:
    batch, alone = Bench(database), Bench(database)
    batch.study(name="batch", pruner={"name": "asha"})
    alone.study(name="alone", pruner={"name": "asha"})
    together, apart = ([bench.row() for _ in range(4)] for bench in (batch, alone))
    values = [3.0, 1.0, 2.0, 0.5]
    at_once = batch.judge(
        *((t, step, v) for step in (1, 2, 3) for t, v in zip(together, values, strict=True))
    )
    one_by_one = [
        alone.judge((t, step, v))[0]
        for step in (1, 2, 3)
        for t, v in zip(apart, values, strict=True)
    ]
    assert at_once == one_by_one


def test_median_ends_what_is_worse_than_half_of_the_complete_trials(bench: Bench) -> None:
    pruner = {"name": "median", "n_startup_trials": 2, "n_warmup_steps": 2}
    *others, good, bad = racing(bench, pruner, 5)
    for step in (1, 2, 3):
        bench.judge(*((t, step, 1.0) for t in others))
    for trial in others:
        bench.update(trial, state="complete", values=[1.0])
    steps = [bench.judge((good, step, 0.5), (bad, step, 2.0)) for step in (1, 2)]
    assert steps == [["continue", "continue"], ["continue", "prune"]]


def test_a_trial_that_was_told_to_stop_stays_so_in_its_next_attempt(bench: Bench) -> None:
    best, trial = racing(bench, {"name": "asha"}, 2)
    assert bench.judge((best, 2, 0.0), (trial, 2, 9.0), (trial, 3, 0.0)) == [
        "continue", "prune", "prune",
    ]  # fmt: skip
    bench.attempt(trial, 1)
    bench.attempt(trial, 2)
    assert bench.judge((trial, 1, 9.0), (trial, 2, 9.0), attempt=2) == ["continue", "prune"]


def test_rows_that_are_not_part_of_the_search_are_never_pruned(bench: Bench) -> None:
    best, baseline = racing(bench, {"name": "asha"}, 2)
    bench.update(baseline, kind="baseline", number=None)
    assert bench.judge((best, 2, 0.0), (baseline, 2, 9.0)) == ["continue", "continue"]
