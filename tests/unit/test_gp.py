"""What a user of the Gaussian process relies on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from hpo_service.database import Database
from hpo_service.samplers import gp_data
from hpo_service.samplers import gp_model as model
from tests.searching import Bench

UNIT = {"type": "float", "low": 0.0, "high": 1.0}
CHOICE = {"type": "categorical", "choices": ["a", "b", "c"]}


@pytest.fixture
def bench(sqlite_url: str) -> Any:
    database = Database(sqlite_url)
    yield Bench(database)
    database.close()


def search(bench: Bench, n_trials: int, sign: float = 1) -> list[float]:
    """The loss of each trial in turn: 0 is the best there is, at one point of choice "b"."""
    losses = []
    for _ in range(n_trials):
        proposal = bench.propose()
        assert proposal is not None
        assert "sampler_error" not in proposal.system_attrs
        x, y, c = (proposal.params[name] for name in "xyc")
        losses.append((x - 0.3) ** 2 + (y - 0.9) ** 2 + 0.5 * (c != "b"))
        bench.insert(proposal, "complete", values=[sign * losses[-1]])
    return losses


@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1), ("maximize", -1)])
def test_it_finds_the_optimum(bench: Bench, direction: str, sign: float) -> None:
    objective = {"kind": "external", "directions": [direction]}
    searched = {"x": UNIT, "y": UNIT, "c": CHOICE}
    bench.study(sampler={"name": "gp"}, search_space=searched, objective=objective)
    assert min(search(bench, 30, sign)) < 1e-3


def test_parallel_proposals_keep_apart(bench: Bench) -> None:
    searched = {"x": UNIT, "y": UNIT, "c": CHOICE}
    bench.study(sampler={"name": "gp"}, search_space=searched)
    search(bench, 14)
    running = []
    for _ in range(4):
        proposal = bench.propose()
        assert proposal is not None
        bench.insert(proposal)
        running.append(proposal.params)
    for i, one in enumerate(running):
        for other in running[:i]:
            apart = max(abs(one["x"] - other["x"]), abs(one["y"] - other["y"]))
            assert one["c"] != other["c"] or apart > 0.01


def test_each_point_of_a_small_space_comes_once(bench: Bench) -> None:
    searched = {"n": {"type": "int", "low": 1, "high": 8}, "c": CHOICE}
    found = bench.study(sampler={"name": "gp"}, search_space=searched).run(24)
    assert len({tuple(params.items()) for params in found}) == 24


def test_values_that_do_not_fit_a_float_or_are_all_equal_do_no_harm(bench: Bench) -> None:
    bench.study(sampler={"name": "gp"}, search_space={"x": UNIT})
    for value in [1.0] * 11 + [1e308, -1e308]:
        proposal = bench.propose()
        assert proposal is not None
        assert "sampler_error" not in proposal.system_attrs
        bench.insert(proposal, "complete", values=[value])


def test_a_fixed_parameter_is_kept(bench: Bench) -> None:
    searched = {"x": UNIT, "y": UNIT, "c": CHOICE}
    bench.study(sampler={"name": "gp"}, search_space=searched)
    search(bench, 12)
    waiting = bench.row("waiting", system_attrs={"fixed_params": {"x": 0.125, "c": "a"}})
    params = bench.complete(waiting).params
    assert (params["x"], params["c"], set(params)) == (0.125, "a", set("xyc"))


def test_good_trials_are_told_apart_whatever_the_bad_ones_came_to() -> None:
    losses = np.array([1.0, 1.1, 1.3, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 1e6, np.inf])
    values, slopes = gp_data._standardised(losses)
    assert (np.diff(values[:-2]) > 0.05).all()
    assert (values.mean(), values.std()) == pytest.approx((0, 1))
    moved, _ = gp_data._standardised(losses + np.eye(11)[1] * 1e-6)
    farther = np.diff(moved)[0] - np.diff(values)[0]
    assert farther == pytest.approx(slopes[1] * 1e-6, rel=0.1)


def test_the_gradient_of_the_likelihood_is_right() -> None:
    rng = np.random.default_rng(0)
    unordered = np.array([False, False, True])
    points = np.c_[rng.random((20, 2)), rng.integers(3, size=20)]
    values, noise = rng.normal(size=20), rng.random(20)
    pairs = np.triu_indices(20, 1)
    apart = model._differences(points[pairs[0]].T, points[pairs[1]].T, unordered)
    at = np.log([2.0, 0.5, 1.3, 0.8, 0.05])
    numeric = approx_fprime(at, lambda log: model._loss(log, apart, values, noise, pairs)[0], 1e-7)
    assert model._loss(at, apart, values, noise, pairs)[1] == pytest.approx(numeric, abs=1e-4)


@pytest.mark.parametrize("weight", model.WEIGHTS)
@pytest.mark.parametrize("spread", [0.0, 1e-9, 1e-4])
def test_points_that_are_almost_equal_do_not_stop_it(weight: float, spread: float) -> None:
    rng, unordered = np.random.default_rng(0), np.zeros(3, dtype=bool)
    limits = [weight] * 3 + [model.VARIANCE[1], model.NOISE[0]]
    near = np.clip(0.4 + spread * rng.normal(size=(200, 3)), 0, 1)
    values, exact = rng.normal(size=100), np.zeros(100)
    given = model.Hyperparameters(np.log(limits))
    posterior = model.Posterior.of(near[:100], values, exact, unordered, given)
    for more in (near[100:], *near[:5, None]):
        posterior = posterior.extended(more, posterior.mean(more))
    mean, deviation = posterior.mean_and_deviation(rng.random((20, 3)))
    assert np.abs(mean).max() < 1e3
    assert (deviation > 0).all()


def test_trials_that_failed_or_run_where_others_do_leave_it_at_work(bench: Bench) -> None:
    bench.study(sampler={"name": "gp"}, search_space={"x": UNIT, "y": UNIT, "c": CHOICE})
    search(bench, 12)
    same = {"x": 0.5, "y": 0.5, "c": "a"}
    for state in ("fail", "running") * 10:
        bench.row(state, params=same, distributions={})
    proposal = bench.propose()
    assert proposal is not None
    assert "sampler_error" not in proposal.system_attrs
    assert proposal.params != same


def test_expected_improvement_never_underflows() -> None:
    mean = np.array([-3.0, 0.0, 3.0, 40.0, 1e4, 1e8])
    found = model.log_expected_improvement(mean, np.ones(6), 0.0)
    assert np.isfinite(found).all()
    assert (np.diff(found) < 0).all()
    assert found[:2] == pytest.approx([np.log(3.000382), np.log(0.3989423)], abs=1e-5)


SCRIPT = """
import sys
from hpo_service.database import Database
from hpo_service.samplers import gp
from tests.searching import Bench

bench = Bench(Database(sys.argv[1])).study(sampler={"name": "gp"})
bench.run(12)
assert gp.NOTE in bench.propose().system_attrs
assert "torch" not in sys.modules
"""


def test_it_loads_no_torch(bench: Bench, sqlite_url: str) -> None:
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", SCRIPT, sqlite_url], cwd=root, check=True, timeout=60)
