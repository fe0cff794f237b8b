"""Perceptrons that differ in form share a pass, and each computes as if it were alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from hpo_service import catalog
from hpo_service.catalog import activations, initializations
from workers.models import mlp_stacks
from workers.models.base import Shape
from workers.models.mlp import Mlp, order, shape
from workers.models.mlp_stacks import Cost, Design, Ends, stacked
from workers.training import seeding
from workers.training.optimizers import OPTIMIZERS

INPUTS, OUTPUTS, ROWS, STEPS = 7, 3, 6, 50
BLOCKS = ((0, 2), (4, 7))
# Padding that costs nothing is always taken, calls that cost nothing never spared.
EAGER, NEVER = Cost(call=1.0, product=0.0, value=0.0), Cost(call=0.0, product=1.0, value=1.0)

LANE = st.fixed_dictionaries(
    {"activation": st.sampled_from(get_args(activations.Activation))},
    optional={
        "dropout": st.sampled_from([0.1, 0.5]),
        "input_dropout": st.just(0.2),
        "initialization": st.sampled_from(get_args(initializations.Initialization)),
        "leaky_slope": st.sampled_from([0.1, 0.3]),
        "label_smoothing": st.sampled_from([0.1, 0.3]),
        "learning_rate": st.sampled_from([0.001, 0.01]),
        "weight_decay": st.just(0.01),
    },
)
FORMS = st.lists(
    st.fixed_dictionaries(
        {"hidden_units": st.lists(st.integers(1, 9), min_size=1, max_size=4), "bias": st.booleans()}
    ),
    min_size=2,
    max_size=5,
)


class Run:
    """Lanes at work with an optimizer, each on rows that only its seed decides."""

    def __init__(self, params: Sequence[dict[str, Any]], seeds: Sequence[int]) -> None:
        family = catalog.FAMILIES["mlp"]
        settings = [catalog.settings_of(family, each | {"batch_size": ROWS}) for each in params]
        rngs = [seeding.generator(seed, 0, 0) for seed in seeds]
        cpu, double = torch.device("cpu"), torch.float64
        shape = Shape("classification", INPUTS, OUTPUTS, double, cpu, blocks=BLOCKS)
        self.network = Mlp(settings, rngs, shape)
        rule = OPTIMIZERS[settings[0].optimizer]  # type: ignore[attr-defined]
        self.optimizer = rule(settings, self.network.parameters)  # type: ignore[arg-type]
        self.rows = [np.random.default_rng(seed) for seed in seeds]

    def steps(self, count: int) -> torch.Tensor:
        """Losses, (lanes, steps)."""
        self.network.start_epoch([count] * len(self.rows))
        return torch.stack([self.step(step) for step in range(count)], 1)

    def step(self, step: int) -> torch.Tensor:
        drawn = [self.batch(rng, step) for rng in self.rows]
        inputs, target, weights = (torch.stack(each) for each in zip(*drawn, strict=True))
        losses = self.network.learn(step, inputs, target, weights)
        self.optimizer.step(self.network.parameters, self.network.gradient)
        return (losses * weights).sum(1)

    def batch(self, rng: np.random.Generator, step: int) -> tuple[torch.Tensor, ...]:
        inputs = torch.from_numpy(rng.standard_normal((ROWS, INPUTS)))
        for start, stop in BLOCKS:
            codes = torch.from_numpy(rng.integers(0, stop - start, ROWS))
            inputs[:, start:stop] = functional.one_hot(codes, stop - start)
        weights = torch.full((ROWS,), 1 / ROWS, dtype=torch.float64)
        if step % 4 == 3:
            real = int(rng.integers(2, ROWS))
            weights[:] = 1 / real
            weights[real:] = 0
        return inputs, torch.from_numpy(rng.integers(0, OUTPUTS, ROWS)), weights

    def keep(self, lanes: Sequence[int]) -> None:
        self.network.keep(lanes)
        self.optimizer.keep(lanes)
        self.rows = [self.rows[lane] for lane in lanes]

    def arrays(self, lane: int) -> torch.Tensor:
        found = self.network.arrays(lane).values()
        return torch.from_numpy(np.concatenate([array.ravel() for array in found]))


def check(params: list[dict[str, Any]]) -> Run:
    """Each lane as alone, through 50 steps, when another lane has left, and in its predictions."""
    together = Run(params, range(len(params)))
    apart = [Run([each], [seed]) for seed, each in enumerate(params)]
    for lanes in (range(len(params)), range(1, len(params))):
        if len(lanes) < len(params):
            together.keep(list(lanes))
            apart = apart[1:]
        losses = together.steps(STEPS // 2)
        for lane, alone in enumerate(apart):
            close(losses[lane], alone.steps(STEPS // 2)[0])
            close(together.arrays(lane), alone.arrays(0))
            assert together.network.sizes[lane] == alone.network.sizes[0]
    inputs = torch.from_numpy(np.random.default_rng(0).standard_normal((len(apart), 5, INPUTS)))
    predicted = together.network.predict(inputs)
    for lane, alone in enumerate(apart):
        close(predicted[lane], alone.network.predict(inputs[lane : lane + 1])[0])
    return together


def close(one: torch.Tensor, two: torch.Tensor) -> None:
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


def test_a_wide_lane_fits_beside_a_deeper_one_that_ends_narrow() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlp_stacks, "CPU", EAGER)
        check([{"hidden_units": [9, 1]}, {"hidden_units": [9]}])


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    forms=FORMS,
    lanes=st.lists(LANE, min_size=5, max_size=5),
    optimizer=st.sampled_from(list(OPTIMIZERS)),
    normalization=st.sampled_from(["none", "none", "batch", "layer"]),
    embedding=st.sampled_from([0, 0, 2]),
    cost=st.sampled_from([EAGER, NEVER, mlp_stacks.CPU]),
    ordered=st.booleans(),
)
def test_a_lane_computes_the_same_among_others_of_any_form_and_alone(
    forms: list[dict[str, Any]],
    lanes: list[dict[str, Any]],
    optimizer: str,
    normalization: str,
    embedding: int,
    cost: Cost,
    ordered: bool,
) -> None:
    shared = {"optimizer": optimizer, "normalization": normalization, "embedding": embedding}
    if normalization != "none":
        forms = [form | {"hidden_units": forms[0]["hidden_units"]} for form in forms]
    params = [lane | form | shared for lane, form in zip(lanes, forms, strict=False)]
    if ordered:
        params.sort(key=lambda each: order(MADE(**each)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlp_stacks, "CPU", cost)
        check(params)


MADE = catalog.FAMILIES["mlp"].hyperparameters


@pytest.mark.parametrize("activation", get_args(activations.Activation))
def test_padded_units_never_learn(
    activation: activations.Activation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlp_stacks, "CPU", EAGER)
    forms = [[5, 4, 3], [7, 2], [2, 3], [6], [1]]
    params = [{"hidden_units": form, "activation": activation} for form in forms]
    run = check([each | {"initialization": "normal", "dropout": 0.2} for each in params])
    network = run.network
    # One stack: the widest row has room for 6, 4 and 3 units, and the shallow lanes use less.
    for lane in range(len(network.parameters)):
        assert np.count_nonzero(network.parameters[lane].numpy()) <= network.sizes[lane]
        assert network.sizes[lane] < network.parameters.shape[1]


def test_settings_that_cannot_or_should_not_share_a_pass_differ_in_shape() -> None:
    def of(**params: Any) -> Any:
        return shape(MADE(**params))

    assert of() == of(hidden_units=16, hidden_layers=4, activation="tanh", dropout=0.1, bias=False)
    assert of(embedding=2) != of(embedding=3)
    assert of(normalization="batch") not in (of(), of(normalization="layer"))
    assert of(normalization="batch") != of(normalization="batch", hidden_units=65)
    assert of(hidden_units=16) != of(hidden_units=256)


def test_stacks_are_as_few_as_pays() -> None:
    deep, wide, small = Design((64, 64), "relu"), Design((60,), "tanh"), Design((9,), "relu")
    lanes, ends = [deep, deep, wide, small], Ends(30, 5)
    found = {
        name: [stack.designs for stack in stacked(lanes, ends, 32, cost)]
        for name, cost in {"eager": EAGER, "never": NEVER}.items()
    }
    assert found["eager"] == [(deep, deep, wide, small)]
    assert found["never"] == [(deep, deep), (wide,), (small,)]
    # The deepest first, or a layer's lanes would not be neighbours.
    assert len(stacked([small, deep], ends, 32, EAGER)) == 2
    assert len(stacked([deep, Design((9,), "relu", bias=False)], ends, 32, EAGER)) == 2
