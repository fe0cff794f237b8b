"""Samplers of our own pass what Optuna asks of a sampler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import optuna
import pytest
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)

from hpo_service.samplers.as_optuna import AsOptuna

OWN = ["random", "sobol", "tpe", "gp"]
SEVERAL = ["random", "sobol", "tpe"]
Make = Callable[[], AsOptuna]


def made(request: pytest.FixtureRequest) -> Make:
    options = {"n_startup_trials": 2} if request.param in ("gp", "tpe") else {}
    return lambda: AsOptuna(request.param, options, seed=0)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


class TestAnySampler(BasicSamplerTestCase):
    @pytest.fixture(params=OWN)
    def sampler(self, request: pytest.FixtureRequest) -> Any:
        return made(request)


class TestTogether(RelativeSamplerTestCase):
    @pytest.fixture(params=OWN)
    def sampler(self, request: pytest.FixtureRequest) -> Any:
        return made(request)


class TestSeveralMetrics(MultiObjectiveSamplerTestCase):
    @pytest.fixture(params=SEVERAL)
    def sampler(self, request: pytest.FixtureRequest) -> Any:
        return made(request)


class TestOneMetricOnly(SingleOnlySamplerTestCase):
    @pytest.fixture(params=["gp"])
    def sampler(self, request: pytest.FixtureRequest) -> Any:
        return made(request)
