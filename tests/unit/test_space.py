"""What a search space may say, and in which order it is walked."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from hpo_service import errors, protocol, space
from hpo_service.cube import Cube
from tests.searching import SPACE, spec_of


def parsed(given: dict[str, Any]) -> dict[str, protocol.Distribution]:
    searched = spec_of(search_space=given).search_space
    assert searched is not None
    return searched


def test_parents_come_before_their_children_at_any_depth() -> None:
    space.check(parsed(SPACE))
    assert list(space.distributions(parsed(SPACE))) == [
        "lr", "optimizer", "layers", "momentum", "nesterov",
    ]  # fmt: skip


def test_a_parameter_is_active_only_below_active_parents() -> None:
    searched = parsed(SPACE)
    assert space.active(searched, "momentum", {"optimizer": "sgd"})
    assert not space.active(searched, "momentum", {"optimizer": "adam"})
    assert not space.active(searched, "nesterov", {"optimizer": "adam"})
    assert space.active(searched, "nesterov", {"optimizer": "sgd", "momentum": 0.1 * 5})


A = {"type": "categorical", "choices": [1, 2]}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"a": A | {"when": {"b": [1]}}}, "search_space.a.when.b"),
        ({"a": A | {"when": {"a": [1]}}}, "search_space.a.when.a"),
        ({"a": A, "b": A | {"when": {"a": [3]}}}, "search_space.b.when.a"),
        (
            {"a": A | {"when": {"b": [1]}}, "b": A | {"when": {"a": [1]}}},
            "search_space.a.when",
        ),
        (
            {"a": {"type": "float", "low": 0, "high": 1}, "b": A | {"when": {"a": [0.5]}}},
            "search_space.b.when.a",
        ),
        ({"a": {"type": "int", "low": 0, "high": 2**60}}, "search_space.a.high"),
        (
            {"a": {"type": "float", "low": 0, "high": 1e300, "step": 1e-9}},
            "search_space.a.step",
        ),
        (
            {"a": {"type": "float", "low": 1e-12, "high": 1e7, "step": 1.0}},
            "search_space.a.step",
        ),
    ],
)
def test_what_can_not_be_searched_is_refused(given: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        space.check(parsed(given))
    assert refused.value.fields[0].field == field


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"lr": 0.5}, "params.lr"),
        ({"lr": "fast"}, "params.lr"),
        ({"layers": 2.0}, "params.layers"),
        ({"layers": True}, "params.layers"),
        ({"optimizer": "lamb"}, "params.optimizer"),
        ({"depth": 1}, "params.depth"),
        ({"optimizer": "adam", "momentum": 0.5}, "params.momentum"),
        ({"momentum": 0.5}, "params.momentum"),
        ({"optimizer": "sgd", "momentum": 0.55}, "params.momentum"),
        ({"optimizer": None}, "params.optimizer"),
    ],
)
def test_manual_params_outside_the_space_are_refused(params: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        space.check_params(parsed(SPACE), params)
    assert [wrong.field for wrong in refused.value.fields] == [field]


def test_manual_params_may_leave_some_out() -> None:
    space.check_params(parsed(SPACE), {})
    space.check_params(parsed(SPACE), {"lr": 0.1, "optimizer": "sgd", "momentum": 0.3})
    space.check_params(parsed({"x": {"type": "float", "low": 0, "high": 1}}), {"x": 1})


def test_uneven_ranges_end_at_their_last_step_without_a_warning() -> None:
    given = {
        "i": {"type": "int", "low": 1, "high": 10, "step": 4},
        "f": {"type": "float", "low": 0.1, "high": 1.0, "step": 0.2},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = space.distributions(parsed(given))
    assert made == {"i": IntDistribution(1, 9, step=4), "f": FloatDistribution(0.1, 0.9, step=0.2)}


def test_a_plain_name_finds_the_range_whose_condition_holds() -> None:
    def rate(*optimizers: str) -> protocol.FloatRange:
        when = {"optimizer": list(optimizers)}
        return protocol.FloatRange.model_validate(
            {"type": "float", "low": 0.1, "high": 0.9, "when": when}
        )

    searched: dict[str, protocol.Distribution] = {
        "optimizer": protocol.Choice(type="categorical", choices=["sgd", "adam", "rmsprop"]),
        "rate@sgd": rate("sgd"),
        "rate@other": rate("adam", "rmsprop"),
    }
    given = {"optimizer": "adam", "rate": 0.5}
    assert space.labelled(searched, given) == {"optimizer": "adam", "rate@other": 0.5}
    assert space.labelled(searched, {"rate@sgd": 0.5}) == {"rate@sgd": 0.5}
    assert space.labelled(searched, {"unknown": 1}) == {"unknown": 1}
    with pytest.raises(errors.InvalidRequest, match=r"params.rate: has a range for each optimizer"):
        space.labelled(searched, {"rate": 0.5})


def test_values_that_a_parameter_cannot_have_are_no_points_of_the_space() -> None:
    cube = Cube(
        parsed(
            {
                "x": {"type": "float", "low": 0, "high": 2},
                "c": {"type": "categorical", "choices": ["a", None]},
            }
        )
    )
    right: list[dict[str, Any]] = [{"x": 1, "c": "a"}, {"x": 0.5, "c": None}]
    wrong: list[dict[str, Any]] = [
        {"x": "1", "c": "a"},
        {"x": None, "c": "a"},
        {"x": 1, "c": "b"},
        {"c": "a"},
        {},
    ]
    rows = cube.rows([*right, *wrong])
    np.testing.assert_equal(rows[:, 0], [1, 0.5, np.inf, np.inf, 1, np.nan, np.nan])
    np.testing.assert_equal(rows[:, 1], [0, 1, 0, 0, -1, 0, np.nan])
    assert cube.legal(rows).tolist() == [True] * 2 + [False] * 5
