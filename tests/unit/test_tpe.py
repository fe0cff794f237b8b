"""What a user of the tree-structured Parzen estimator relies on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from hpo_service import space
from hpo_service.constraints import cube_of
from hpo_service.cube import Cube
from hpo_service.protocol import ParamValue
from hpo_service.samplers import SAMPLERS, Ask, Sampler, tpe_data
from hpo_service.seen import CODES, Seen, nothing
from tests.searching import spec_of

UNIT = {"type": "float", "low": 0.0, "high": 1.0}
CHOICE = {"type": "categorical", "choices": ["a", "b", "c"]}
Params = Mapping[str, ParamValue]
RNG = np.random.default_rng


def cube_with(constraints: Sequence[str] = (), **searched: Any) -> Cube:
    return cube_of(spec_of(search_space=searched, constraints=list(constraints)))


def study(
    cube: Cube,
    trials: Sequence[Params],
    losses: Any = np.nan,
    state: str | Sequence[str] = "complete",
    steps: Any = 0,
) -> Seen:
    """The trials of a study; `losses` are (trials,) or (trials, metrics)."""
    rows, n = cube.rows(trials), len(trials)
    losses = np.asarray(losses, dtype=np.float64)
    states = [state] * n if isinstance(state, str) else state
    return Seen(
        cube=cube,
        rows=rows,
        legal=cube.legal(rows),
        states=np.array([CODES[each] for each in states], dtype=np.int8),  # type: ignore[index]
        losses=losses if losses.ndim == 2 else np.broadcast_to(losses, n)[:, None],
        steps=np.broadcast_to(np.asarray(steps, dtype=np.int64), n),
        attrs=[{}] * n,
        at=lambda _step: np.full((n, 1), np.nan),
    )


def sampler(cube: Cube, **options: Any) -> Sampler:
    return SAMPLERS["tpe"].make(cube, options)


def proposed(seen: Seen, count: int = 20, **options: Any) -> list[Params]:
    """What is proposed after these trials, from so many seeds."""
    made = sampler(seen.cube, **options)
    found = (made.propose(seen, Ask(len(seen), seed)) for seed in range(count))
    return [suggestion.params for each in found for suggestion in each]


def column(params: Sequence[Params], name: str) -> Any:
    return np.array([each[name] for each in params])


def around(x: float, y: float, count: int, seed: int = 0) -> list[Params]:
    """Trials near a point of the unit square."""
    points = np.clip(RNG(seed).normal([x, y], 0.05, (count, 2)), 0, 1)
    return [{"x": float(a), "y": float(b)} for a, b in points]


def anywhere(count: int, seed: int = 0) -> list[Params]:
    return [{"x": float(a), "y": float(b)} for a, b in RNG(seed).random((count, 2))]


def searched(
    cube: Cube, loss: Callable[[Params], float | Sequence[float]], trials: int
) -> tuple[list[Params], Any]:
    """Trials in turn, each evaluated before the next; and their losses."""
    made, params, losses = sampler(cube), [], []  # type: ignore[var-annotated]
    for number in range(trials):
        seen = study(cube, params, np.array(losses)) if params else nothing(cube, 1)
        (found,) = made.propose(seen, Ask(number, number))
        params.append(found.params)
        losses.append(loss(found.params))
    return params, np.array(losses)


SQUARE = {"x": UNIT, "y": UNIT}


class TestOrder:
    """Which trials count as good: proposals come near them."""

    def test_it_finds_the_optimum(self) -> None:
        cube = cube_with(x=UNIT, n={"type": "int", "low": 1, "high": 40}, c=CHOICE)
        _, losses = searched(
            cube,
            lambda p: (p["x"] - 0.3) ** 2 + (p["n"] / 40 - 0.9) ** 2 + 0.5 * (p["c"] != "b"),  # type: ignore[operator]
            60,
        )
        assert losses[:10].min() > 3e-3 > losses.min()

    def test_a_pruned_trial_is_worse_than_one_that_got_further(self) -> None:
        trials = around(0.2, 0.2, 20) + around(0.8, 0.8, 2)
        losses, steps = [0.0] * 20 + [5.0] * 2, [1] * 20 + [9] * 2
        seen = study(cube_with(**SQUARE), trials, losses, "pruned", steps)
        assert np.median(column(proposed(seen), "x")) > 0.6

    def test_trials_pruned_at_the_same_step_are_ordered_by_their_loss(self) -> None:
        trials, losses = around(0.2, 0.2, 20) + around(0.8, 0.8, 2), [1.0] * 20 + [0.5] * 2
        seen = study(cube_with(**SQUARE), trials, losses, "pruned", 3)
        assert np.median(column(proposed(seen), "x")) > 0.6

    def test_a_complete_trial_is_better_than_any_pruned_one(self) -> None:
        trials, losses = around(0.2, 0.2, 20) + around(0.8, 0.8, 3), [0.0] * 20 + [5.0] * 3
        states = ["pruned"] * 20 + ["complete"] * 3
        seen = study(cube_with(**SQUARE), trials, losses, states, [9] * 20 + [0] * 3)
        assert np.median(column(proposed(seen), "x")) > 0.6

    @pytest.mark.parametrize("state", ["fail", "complete"])
    def test_the_neighbourhood_of_what_failed_or_diverged_is_avoided(self, state: str) -> None:
        # The loss falls towards a border behind which nothing succeeds.
        good = [p for p in anywhere(80) if p["y"] < 0.5]  # type: ignore[operator]
        bad = [p for p in anywhere(80, seed=1) if 0.5 < p["y"] < 0.7]  # type: ignore[operator]
        losses = [-p["y"] for p in good]  # type: ignore[operator]
        cube, states = cube_with(**SQUARE), ["complete"] * len(good) + [state] * len(bad)
        seen = study(cube, good + bad, losses + [np.nan] * len(bad), states)
        beyond = [
            (column(proposed(each, 100), "y") > 0.5).mean()
            for each in (study(cube, good, losses), seen)
        ]
        assert beyond[1] < 0.5 * beyond[0], beyond

    def test_failures_are_avoided_before_anything_has_succeeded(self) -> None:
        seen = study(cube_with(**SQUARE), around(0.2, 0.2, 30), state="fail")
        found = proposed(seen, 60)
        near = (column(found, "x") < 0.4) & (column(found, "y") < 0.4)
        assert near.mean() < 0.05

    def test_the_best_are_never_forgotten(self) -> None:
        n = 3 * (tpe_data.NEWEST + tpe_data.OLDER)
        trials, losses = around(0.9, 0.9, 30) + anywhere(n), [0.0] * 30 + [1.0] * n
        found = proposed(study(cube_with(**SQUARE), trials, losses))
        assert np.median(np.minimum(column(found, "x"), column(found, "y"))) > 0.75

    def test_with_several_metrics_the_front_is_approached_all_along(self) -> None:
        def losses(p: Params) -> tuple[float, float]:
            x, y = float(p["x"]), float(p["y"])
            return x + 3 * abs(y - 0.5), 1 - x + 3 * abs(y - 0.5)

        params, _ = searched(cube_with(**SQUARE), losses, 80)
        late = params[40:]
        assert np.median(abs(column(late, "y") - 0.5)) < 0.1
        assert len(np.unique((column(late, "x") * 4).astype(int))) == 4

    def test_with_several_metrics_the_front_is_never_forgotten(self) -> None:
        n = 3 * tpe_data.COMPARED
        trials = [{"x": i / 29, "y": 0.9} for i in range(30)] + anywhere(n)
        front = np.linspace(0, 1, 30)
        losses = np.vstack([np.c_[front, 1 - front], np.full((n, 2), 2.0)])
        found = proposed(study(cube_with(**SQUARE), trials, losses))
        assert np.median(column(found, "y")) > 0.8

    def test_losses_that_are_not_finite_do_no_harm(self) -> None:
        trials, values = anywhere(30), np.array([np.inf, -np.inf, 1e308, np.nan, 1.0])
        one = study(cube_with(**SQUARE), trials, np.resize(values, 30))
        two = study(cube_with(**SQUARE), trials, np.resize(values, (30, 2)))
        assert len(proposed(one, 3)) == len(proposed(two, 3)) == 3


class TestParallel:
    def converged(self, cube: Cube) -> tuple[list[Params], list[float]]:
        trials = anywhere(40) + around(0.5, 0.5, 20)
        return trials, [abs(p["x"] - 0.5) + abs(p["y"] - 0.5) for p in trials]  # type: ignore[operator]

    def test_it_keeps_apart_from_what_runs(self) -> None:
        cube = cube_with(**SQUARE)
        trials, losses = self.converged(cube)
        running = proposed(study(cube, trials, losses), 8)
        states = ["complete"] * len(trials) + ["running"] * 8
        seen = study(cube, [*trials, *running], [*losses, *[np.nan] * 8], states)
        for found in proposed(seen):
            apart = np.maximum(
                abs(column(running, "x") - found["x"]), abs(column(running, "y") - found["y"])
            )
            assert apart.min() > 0.02

    def test_a_batch_has_no_near_copies(self) -> None:
        cube = cube_with(**SQUARE)
        seen = study(cube, *self.converged(cube))
        batch = [each.params for each in sampler(cube).propose(seen, Ask(60, 0, count=16))]
        points = np.stack([column(batch, "x"), column(batch, "y")], axis=1)
        apart = abs(points[:, None] - points).max(2)[np.triu_indices(16, 1)]
        assert len(batch) == 16
        assert apart.min() > 0.02

    def test_one_made_afresh_answers_like_one_that_has_seen_the_study_grow(self) -> None:
        cube = cube_with(**SQUARE, c=CHOICE)
        trials = [{**p, "c": "abc"[i % 3]} for i, p in enumerate(anywhere(60))]
        old = sampler(cube)
        for n in range(20, 60):
            states = ["complete"] * n
            states[n // 2] = states[-1] = "running"  # ends later than those after it
            seen = study(cube, trials[:n], [float(i % 7) for i in range(n)], states)
            asked = Ask(n, n, count=2)
            old.propose(seen.with_running(seen.rows[-1:]), asked)  # may never come to be
            assert old.propose(seen, asked) == sampler(cube).propose(seen, asked)


class TestSpace:
    def test_rules_are_met(self) -> None:
        cube = cube_with(["x + y <= 0.3"], **SQUARE)
        trials = [p for p in anywhere(300) if p["x"] + p["y"] <= 0.3]  # type: ignore[operator]
        found = proposed(study(cube, trials, [-p["x"] - p["y"] for p in trials]), 30)  # type: ignore[operator]
        assert len(found) == 30
        assert (column(found, "x") + column(found, "y") <= 0.3).all()

    def test_it_proposes_nothing_where_no_point_meets_the_rules(self) -> None:
        assert proposed(nothing(cube_with(["x > 2"], **SQUARE), 1), 1) == []

    def test_what_is_not_active_is_left_out_and_fixed_values_are_kept(self) -> None:
        given = {
            "o": {"type": "categorical", "choices": ["sgd", "adam"]},
            "m": {"type": "float", "low": 0.0, "high": 0.9, "step": 0.1, "when": {"o": ["sgd"]}},
            "n": {"type": "categorical", "choices": [True, False], "when": {"m": [0.5, 0.9]}},
        }
        cube = cube_with(**given)
        params, _ = searched(cube, lambda p: len(p) + float(p.get("m", 0)), 30)  # type: ignore[arg-type]
        for each in params:
            assert space.is_complete(cube.space, each)
            space.check_params(cube.space, each)
        seen = study(cube, params, list(range(30)))
        for fixed in ({"o": "sgd"}, {"o": "sgd", "m": 0.5}, {"o": "adam"}):
            (found,) = sampler(cube).propose(seen, Ask(30, 0, fixed=fixed))
            assert fixed.items() <= found.params.items()
            assert space.is_complete(cube.space, found.params)

    def test_good_values_under_a_condition_are_found(self) -> None:
        cube = cube_with(c=CHOICE, m=UNIT | {"when": {"c": ["a"]}})
        params, losses = searched(
            cube, lambda p: 1.0 if p["c"] != "a" else abs(float(p["m"]) - 0.7), 50
        )
        assert losses.min() < 0.02
        assert (column(params[25:], "c") == "a").mean() > 0.6

    def test_each_point_of_a_small_space_comes_once_and_then_again(self) -> None:
        cube = cube_with(n={"type": "float", "low": 0.0, "high": 0.7, "step": 0.1}, c=CHOICE)
        params, _ = searched(cube, lambda p: float(p["n"]), 30)
        assert len({tuple(each.items()) for each in params[:24]}) == 24
        assert len(params) == 30

    def test_neighbours_in_an_ordered_list_are_alike(self) -> None:
        found = {}
        for ordered in (True, False):
            choices = {"type": "categorical", "choices": list(range(20)), "ordered": ordered}
            cube = cube_with(n=choices, x=UNIT)
            trials = [{"n": i % 20, "x": i / 40} for i in range(40)]
            losses = [0.0 if t["n"] in (4, 6) else 1.0 for t in trials]
            found[ordered] = column(proposed(study(cube, trials, losses), 60), "n")
        assert (found[True] == 5).mean() > 0.15
        assert (found[False] == 5).mean() < 0.1

    def test_a_parameter_of_one_value_and_a_very_long_range_are_nothing_special(self) -> None:
        cube = cube_with(
            one=UNIT | {"high": 0.0},
            two={"type": "int", "low": 3, "high": 3},
            far={"type": "int", "low": 1, "high": 2**53 - 1, "log": True},
        )
        params, losses = searched(cube, lambda p: abs(np.log(p["far"]) - 20), 40)
        assert {(each["one"], each["two"]) for each in params} == {(0.0, 3)}
        assert losses.min() < 1
