"""What a reader of the figures on search quality relies on."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import search_report
from benchmarks.memory import Memory
from benchmarks.problems import PROBLEMS, Made, Problem
from benchmarks.search_runs import Run, points, start_points
from hpo_service import space
from hpo_service.cube import Cube
from hpo_service.protocol import FloatRange
from hpo_service.samplers import Suggestion

LINE = {"x": FloatRange(type="float", low=0.0, high=1.0)}
TABLE = np.linspace(0.0, 2.0, 101)
MADE = Made(lambda params: float(params["x"]), 0.0, TABLE, table=True)
ONE = {"line": Problem(LINE, "report", "continuous", lambda: MADE)}


def runs(method: str, level: float, seeds: int = 6) -> list[Run]:
    """Runs that have found `level` from the first trial on, a little more at each seed."""
    rng, ended = np.random.default_rng(len(method)), np.arange(1.0, 101.0).tolist()
    return [
        Run("line", method, seed, "", [level + 0.01 * rng.random()] * 100, ended, level)
        for seed in range(seeds)
    ]


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_has_start_points_inside_its_space_and_a_grid(name: str) -> None:
    searched = PROBLEMS[name].space
    first = start_points(searched, 3)
    assert first == start_points(searched, 3) != start_points(searched, 4)
    for params in first:
        space.check_params(searched, params)
        assert space.is_complete(searched, params)
    assert all(n >= 2 for n in points(searched).values())


def test_each_kind_of_space_is_in_both_halves() -> None:
    kinds = [
        {each.kind for each in PROBLEMS.values() if each.half == half}
        for half in ("choose", "report")
    ]
    assert kinds[0] == kinds[1] == {"discrete", "continuous", "mixed", "conditional"}


def test_regret_is_one_in_the_middle_and_nothing_is_better_than_the_best() -> None:
    assert MADE.regret(np.array([0.0, 1.0])) == pytest.approx([0, 1])
    assert MADE.better(np.array([0.0, 1.0])) == pytest.approx([0, 50 / 101])


def test_a_study_in_memory_shows_what_runs_and_what_has_ended() -> None:
    memory = Memory(Cube(LINE), 3)
    numbers = [memory.start(Suggestion({"x": x})) for x in (0.25, 0.5)]
    memory.finish(numbers[0], 7.0)
    seen = memory.seen()
    assert seen.pending.tolist() == [False, True]
    assert seen.where("complete").tolist() == [True, False]
    assert seen.losses[0, 0] == 7.0
    assert seen.rows[:, 0].tolist() == [0.25, 0.5]


def test_an_interval_holds_the_mean_over_problems_whatever_runs_are_missing() -> None:
    values = np.array([[1.0, 1.0, np.nan], [3.0, np.nan, np.nan], [np.nan] * 3])
    mean, low, high = search_report.interval(values)
    assert (mean, low, high) == pytest.approx((2.0, 1.0, 3.0))


@pytest.mark.parametrize(("level", "met"), [(0.1, True), (0.2, False)])
def test_a_method_that_is_clearly_worse_than_the_peer_misses_the_target(
    level: float, met: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [*runs("gp", level), *runs("Optuna GP", 0.1), *runs("random", 0.5), *runs("grid", 0.5)]
    search_report.report(search_report.read(found, ONE, 6), ("gp",), "report")
    lines = {line["case"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert lines["gp - Optuna GP at 50, report"]["met"] is met
    assert lines["gp - random at 100, report"]["met"] is True
    assert lines["gp, time per suggestion, continuous, report"]["share"] == pytest.approx(
        level / 0.1
    )
    ranks = [lines[f"regret at 25, report, {name}"]["mean_rank"] for name in ("gp", "grid")]
    assert ranks[0] < ranks[1]


@pytest.mark.parametrize(("level", "met"), [(0.13, True), (0.4, False)])
def test_what_many_workers_lose_is_a_share_of_the_gain_over_random_search(
    level: float, met: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [*runs("gp", 0.1), *runs("gp x4", level), *runs("random", 0.5)]
    search_report.report(search_report.read(found, ONE, 6), ("gp",), "report")
    lines = {line["case"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    line = lines["gp, 4 workers, gain lost at 50, report"]
    assert line["ours"] == pytest.approx((level - 0.1) / 0.4, abs=0.03)
    assert line["met"] is met
