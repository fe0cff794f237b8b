"""Every family of networks: what it declares to be alike is enough to be trained in one pass."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from hpo_service import catalog
from hpo_service.cube import Cube
from hpo_service.samplers.independent import anywhere
from workers.models import MODELS
from workers.training.groups import pass_of

NETWORKS = [family for family in catalog.FAMILIES.values() if family.network]


def pass_of_params(family: catalog.Family, params: dict[str, Any]) -> Any:
    settings = catalog.settings_of(family, {catalog.plain(k): v for k, v in params.items()})
    return pass_of(family.name, MODELS[family.name], settings)  # type: ignore[arg-type]


def drawn(family: catalog.Family, fixed: dict[str, Any], count: int) -> list[dict[str, Any]]:
    cube = Cube(family.default_space)
    rows = anywhere(cube, cube.rows([fixed])[0], count, np.random.default_rng(7))
    return [cube.params(row) for row in rows]


@pytest.mark.parametrize("family", NETWORKS, ids=lambda family: family.name)
def test_settings_that_are_alike_share_a_pass(family: catalog.Family) -> None:
    for first in drawn(family, {}, 5):
        shared = {k: v for k, v in first.items() if catalog.plain(k) in family.alike}
        others = drawn(family, shared, 10)
        assert {pass_of_params(family, each) for each in others} == {pass_of_params(family, first)}


@pytest.mark.parametrize("family", NETWORKS, ids=lambda family: family.name)
def test_what_is_declared_are_hyperparameters_of_the_family(family: catalog.Family) -> None:
    assert family.alike <= set(family.hyperparameters.model_fields)


def test_without_it_few_settings_share_a_pass() -> None:
    family = catalog.FAMILIES["rnn"]
    found = [pass_of_params(family, each) for each in drawn(family, {}, 20)]
    same = [one == other for one, other in itertools.combinations(found, 2)]
    assert np.mean(same) < 0.1
