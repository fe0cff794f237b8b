"""Rules on settings: what they mean, what is refused, and that nothing of them is ever run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hpo_service import constraints, errors
from hpo_service.cube import Cube
from hpo_service.samplers import SAMPLERS
from hpo_service.samplers.base import Ask
from hpo_service.seen import nothing
from tests.searching import spec_of

SPACE: dict[str, Any] = {
    "units": {"type": "int", "low": 16, "high": 512, "log": True},
    "layers": {"type": "int", "low": 1, "high": 6},
    "optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
    "momentum": {"type": "float", "low": 0.0, "high": 0.9, "when": {"optimizer": ["sgd"]}},
    "rate@sgd": {"type": "float", "low": 1e-3, "high": 1.0, "when": {"optimizer": ["sgd"]}},
    "rate@adam": {"type": "float", "low": 1e-4, "high": 0.1, "when": {"optimizer": ["adam"]}},
    "nesterov": {"type": "categorical", "choices": [True, False]},
}


def cube_of(*rules: str) -> Cube:
    return constraints.cube_of(spec_of(search_space=SPACE, constraints=list(rules)))


def points(cube: Cube, n: int = 500) -> Any:
    draws = np.random.default_rng(0).random((n, len(cube.names)))
    return cube.values(draws, np.full(len(cube.names), np.nan))


@pytest.mark.parametrize(
    ("rule", "meaning"),
    [
        ("units * layers <= 1024", lambda p: p["units"] * p["layers"] <= 1024),
        ("1 < layers <= 3", lambda p: 1 < p["layers"] <= 3),
        ("layers in [1, 5]", lambda p: p["layers"] in (1, 5)),
        ("layers not in [1, 5]", lambda p: p["layers"] not in (1, 5)),
        (
            "optimizer == 'sgd' or units < 100",
            lambda p: p["optimizer"] == "sgd" or p["units"] < 100,
        ),
        ("not (layers == 1 and nesterov)", lambda p: not (p["layers"] == 1 and p["nesterov"])),
        ("momentum > 0.5", lambda p: p.get("momentum", 1) > 0.5),
        ("rate < 0.05", lambda p: p.get("rate@sgd", p.get("rate@adam")) < 0.05),
        ("max(units, 40 * layers) - 16 < 2 ** 6", lambda p: max(p["units"], 40 * p["layers"]) < 80),
        ("-log2(units) < -6 + layers % 2", lambda p: -np.log2(p["units"]) < -6 + p["layers"] % 2),
    ],
)
def test_a_rule_means_what_it_says_and_leaves_inactive_parameters_in_peace(
    rule: str, meaning: Any
) -> None:
    cube = cube_of(rule)
    rows = points(cube)
    assert cube.feasible(rows).tolist() == [bool(meaning(cube.params(row))) for row in rows]


@pytest.mark.parametrize(
    "rule",
    [
        "__import__('os').system('true')", "units", "units <", "a * b < 3", "units.real > 1",
        "optimizer > 'adam'", "optimizer == 1", "'a' == 'a'", "(lambda: 1)() < units",
        "units < 1 if layers else 2", "min(units) < 3", "[x for x in units]", "units in 5",
        "not units", "units + nesterov < 3", "units" + "+1" * 200 + "<3", "layers in []", "\x00",
        "abs(units, layers) < 3", "exec('1') < units", "units @ layers < 3", "~units < 3",
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused_by_its_place(rule: str) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        cube_of("layers < 5", rule)
    assert refused.value.fields[0].field == "constraints.1"


def test_what_cannot_be_computed_is_not_met() -> None:
    cube = cube_of("log(layers - 7) < 5", "units < 10 ** 10 ** 10")
    assert not cube.feasible(points(cube)).any()
    with pytest.raises(errors.InvalidRequest) as refused:
        constraints.check_possible(cube)
    assert refused.value.fields[0].field == "constraints"


@pytest.mark.parametrize("name", [n for n in SAMPLERS if not SAMPLERS[n].listed])
def test_no_sampler_proposes_what_breaks_a_rule(name: str) -> None:
    cube = cube_of("units * layers <= 64", "rate < 0.05")
    sampler = SAMPLERS[name].make(cube, {})
    known = nothing(cube, 1)
    for number in range(16):
        (found,) = sampler.propose(known, Ask(number, seed=number))
        assert cube.feasible(cube.rows([found.params])).all()
