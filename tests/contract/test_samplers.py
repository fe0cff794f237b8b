"""What every sampler must do, and what the grid promises beyond that."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from hpo_service import errors, space
from hpo_service.cube import Cube
from hpo_service.database import Database
from hpo_service.samplers import SAMPLERS
from hpo_service.samplers.grid import GridOptions, axis, count
from tests.searching import Bench, spec_of

POINTS = {"grid": {"points": {"lr": 3}}}
# Enough for the models to be asked, not only their random start.
TRIALS = dict.fromkeys(SAMPLERS, 25) | {"gp": 13}


@pytest.fixture
def bench(sqlite_url: str) -> Any:
    database = Database(sqlite_url)
    yield Bench(database)
    database.close()


@pytest.mark.parametrize("name", SAMPLERS)
class TestEverySampler:
    def test_it_stays_inside_the_space_and_leaves_out_what_is_not_active(
        self, bench: Bench, name: str
    ) -> None:
        spec = spec_of(sampler={"name": name} | POINTS.get(name, {}))
        searched = spec.search_space
        assert searched is not None
        for params in bench.study(sampler=spec.sampler.model_dump()).run(TRIALS[name]):
            space.check_params(searched, params)
            assert space.is_complete(searched, params)
            assert json.loads(json.dumps(params)) == params

    def test_the_same_study_gets_the_same_params_twice(self, bench: Bench, name: str) -> None:
        runs = []
        for twin in ("one", "two"):
            sampler = {"name": name} | POINTS.get(name, {})
            runs.append(bench.study(name=twin, sampler=sampler).run(TRIALS[name]))
        assert runs[0] == runs[1]
        assert len({json.dumps(params) for params in runs[0]}) == len(runs[0])

    def test_it_optimises_several_metrics_or_says_that_it_does_not(
        self, bench: Bench, name: str
    ) -> None:
        sampler = {"name": name} | POINTS.get(name, {})
        objective = {"kind": "external", "directions": ["minimize", "maximize"]}
        spec = spec_of(sampler=sampler, objective=objective)
        entry = SAMPLERS[name]
        assert spec.search_space is not None
        if not entry.multi_objective:
            with pytest.raises(errors.InvalidRequest):
                entry.check(Cube(spec.search_space), spec.sampler.options, 2)
            return
        entry.check(Cube(spec.search_space), spec.sampler.options, 2)
        bench.study(sampler=sampler, objective=objective)
        for number in range(TRIALS[name]):
            proposal = bench.propose()
            assert proposal is not None
            assert "sampler_error" not in proposal.system_attrs
            bench.insert(proposal, "complete", values=[number % 5, number % 3])

    def test_unknown_options_are_refused_by_name(self, name: str) -> None:
        spec = spec_of()
        assert spec.search_space is not None
        with pytest.raises(errors.InvalidRequest) as refused:
            SAMPLERS[name].check(Cube(spec.search_space), {"speed": 9}, 1)
        assert refused.value.fields[0].field == "sampler.speed"


@pytest.mark.parametrize("name", [n for n in SAMPLERS if n != "grid"])
def test_another_seed_gives_other_params(bench: Bench, name: str) -> None:
    one = bench.study(name="one", sampler={"name": name}, seed=1).run(2)
    assert bench.study(name="two", sampler={"name": name}, seed=2).run(2) != one


def space_of(**given: Any) -> space.Space:
    searched = spec_of(search_space=given).search_space
    assert searched is not None
    return searched


def range_of(low: Any, high: Any, **more: Any) -> dict[str, Any]:
    kind = "float" if isinstance(low, float) else "int"
    return {"type": kind, "low": low, "high": high} | more


class TestGrid:
    def test_each_point_once_and_then_nothing(self, bench: Bench) -> None:
        bench.study(
            sampler={"name": "grid", "points": {"x": 3}},
            search_space={"x": range_of(0.0, 1.0), "n": range_of(1, 2)},
        )
        assert bench.run(6) == [{"x": x, "n": n} for x in (0.0, 0.5, 1.0) for n in (1, 2)]
        assert bench.propose() is None

    def test_points_that_differ_only_in_inactive_parameters_are_one(self, bench: Bench) -> None:
        searched = {
            "o": {"type": "categorical", "choices": ["sgd", "adam"]},
            "m": range_of(0.0, 0.9, when={"o": ["sgd"]}),
        }
        bench.study(sampler={"name": "grid", "points": {"m": 2}}, search_space=searched)
        assert bench.run(3) == [{"o": "sgd", "m": 0.0}, {"o": "sgd", "m": 0.9}, {"o": "adam"}]
        assert bench.propose() is None

    def test_manual_trials_on_the_grid_count_and_others_do_not(self, bench: Bench) -> None:
        bench.study(
            sampler={"name": "grid", "points": {"x": 3}}, search_space={"x": range_of(0.0, 0.3)}
        )
        bench.row("waiting", system_attrs={"fixed_params": {"x": 0.15}})  # 0.3 / 2, rounded
        bench.row("cancelled", system_attrs={"fixed_params": {"x": 0.1}})
        assert bench.run(2) == [{"x": 0.0}, {"x": 0.3}]
        assert bench.propose() is None

    def test_a_manual_trial_is_completed_with_the_first_point_that_agrees(
        self, bench: Bench
    ) -> None:
        bench.study(
            sampler={"name": "grid"}, search_space={"a": range_of(1, 2), "b": range_of(1, 2)}
        )
        bench.run(1)  # a=1, b=1
        ids = [bench.row("waiting", system_attrs={"fixed_params": {"b": b}}) for b in (1, 1, 1)]
        filled = []
        for trial_id in ids:
            proposal = bench.complete(trial_id)
            bench.update(trial_id, params=proposal.params, distributions=proposal.distributions)
            filled.append(proposal.params)
        # All are taken in the end, but a manual trial is evaluated in any case.
        assert filled == [{"a": 2, "b": 1}, {"a": 1, "b": 1}, {"a": 1, "b": 1}]

    @pytest.mark.parametrize(
        ("given", "points", "expected"),
        [
            (range_of(0.0, 0.3), 4, [0.0, 0.1, 0.2, 0.3]),
            (range_of(1e-4, 0.1, log=True), 4, [1e-4, 1e-3, 1e-2, 0.1]),
            (range_of(0.1, 0.35, step=0.1), None, [0.1, 0.2, 0.3]),
            (range_of(0.0, 1.0, step=0.25), 3, [0.0, 0.5, 1.0]),
            (range_of(0.5, 0.5), None, [0.5]),
            (range_of(1, 10, step=4), None, [1, 5, 9]),
            (range_of(1, 1000, log=True), 4, [1, 10, 100, 1000]),
            (range_of(1, 3), 10, [1, 2, 3]),
        ],
    )
    def test_values_are_evenly_spaced_with_both_ends(
        self, given: Any, points: int | None, expected: list[float]
    ) -> None:
        assert list(axis(space_of(x=given)["x"], points)) == expected

    def test_a_float_without_step_or_points_is_refused(self) -> None:
        with pytest.raises(errors.InvalidRequest) as refused:
            SAMPLERS["grid"].check(Cube(space_of(x=range_of(0.0, 1.0))), {}, 1)
        assert refused.value.fields[0].field == "search_space.x"

    @pytest.mark.parametrize("name", ["y", "c"])
    def test_points_for_what_has_no_range_are_refused(self, name: str) -> None:
        searched = space_of(c={"type": "categorical", "choices": [1, 2]})
        with pytest.raises(errors.InvalidRequest) as refused:
            SAMPLERS["grid"].check(Cube(searched), {"points": {name: 3}}, 1)
        assert refused.value.fields[0].field == f"sampler.points.{name}"

    @pytest.mark.parametrize(
        "given",
        [
            {f"p{i}": range_of(1, 100) for i in range(6)},
            {"x": range_of(0.0, 1.0, step=1e-12)},
            {
                "a": {"type": "categorical", "choices": list(range(1000))},
                "b": range_of(1, 10**6, when={"a": [0]}),
            },
        ],
    )
    def test_a_grid_too_large_is_refused_at_once(self, given: Any) -> None:
        before = time.process_time()
        with pytest.raises(errors.InvalidRequest):
            SAMPLERS["grid"].check(Cube(space_of(**given)), {}, 1)
        assert time.process_time() - before < 2

    def test_shuffled_points_come_once_each_and_in_no_order(self, bench: Bench) -> None:
        searched = {"a": range_of(1, 7), "b": range_of(1, 9, when={"a": [2, 3]})}
        runs = []
        for seed in (0, 0, 1):
            name, sampler = f"run-{len(runs)}", {"name": "grid", "shuffle": True}
            bench.study(name=name, seed=seed, sampler=sampler, search_space=searched)
            runs.append([tuple(params.items()) for params in bench.run(5 + 2 * 9)])
            assert bench.propose() is None
        assert runs[0] == runs[1] != runs[2]
        assert set(runs[0]) == set(runs[2])
        assert len(set(runs[0])) == 23
        assert runs[0] != sorted(runs[0])

    def test_what_was_proposed_but_never_stored_comes_again(self, bench: Bench) -> None:
        bench.study(sampler={"name": "grid"}, search_space={"n": range_of(1, 3)})
        one, again = bench.propose(), bench.propose()
        assert one is not None
        assert again is not None
        assert one.params == again.params == {"n": 1}
        bench.insert(one)
        assert [params["n"] for params in bench.run(2)] == [2, 3]
        assert bench.propose() is None

    def test_points_that_break_a_rule_are_left_out(self, bench: Bench) -> None:
        bench.study(
            sampler={"name": "grid"},
            search_space={"a": range_of(1, 3), "b": range_of(1, 3)},
            constraints=["a * b <= 3"],
        )
        assert [(p["a"], p["b"]) for p in bench.run(5)] == [(1, 1), (1, 2), (1, 3), (2, 1), (3, 1)]
        assert bench.propose() is None

    def test_points_are_counted_as_they_are_enumerated(self) -> None:
        searched = space_of(
            a=range_of(1, 100),
            b=range_of(1, 1000, when={"a": [1, 2]}),
            c=range_of(0.0, 1.0, step=0.1, when={"b": [1]}),
        )
        assert count(searched, GridOptions()) == 98 + 2 * (11 + 999)
