"""The hand-written backward pass against autograd, and the draws of dropout and weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from hpo_service import catalog, protocol
from workers.models.activations import ACTIVATIONS
from workers.models.base import Shape
from workers.models.dropout import Dropout
from workers.models.initializations import INITIALIZATIONS
from workers.models.mlp import Mlp
from workers.training import seeding

AUTOGRAD: dict[str, Any] = {
    "sigmoid": lambda z, slope: torch.sigmoid(z),
    "tanh": lambda z, slope: torch.tanh(z),
    "relu": lambda z, slope: functional.relu(z),
    "leaky_relu": lambda z, slope: functional.leaky_relu(z, 0.01),
    "prelu": lambda z, slope: functional.prelu(z, slope),
    "swish": lambda z, slope: functional.silu(z),
    "gelu": lambda z, slope: functional.gelu(z),
}


def network(task: protocol.Task, **params: Any) -> Mlp:
    settings = catalog.settings_of(catalog.FAMILIES["mlp"], params)
    shape = Shape(task, 4, 3, torch.float64, torch.device("cpu"))
    made = Mlp([settings] * 2, [seeding.generator(s, 0, 0) for s in range(2)], shape)  # type: ignore[list-item]
    made.parameters += 0.1 * torch.randn(made.parameters.shape, dtype=torch.float64)
    return made


def by_name(made: Mlp, lane: int) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(array) for name, array in made.arrays(lane).items()}


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_and_predictions_agree_with_autograd(
    activation: str, task: protocol.Task
) -> None:
    torch.manual_seed(0)
    made = network(task, activation=activation, hidden_units=[5, 6])
    inputs = torch.randn(2, 8, 4, dtype=torch.float64)
    target = torch.randint(0, 3, (2, 8))
    if task == "regression":
        target = torch.randn(2, 8, 3, dtype=torch.float64)
    losses = made.learn(0, inputs, target, 1 / 8)
    predicted = made.predict(inputs)
    for lane in range(2):
        numbers = by_name(made, lane)
        for number in numbers.values():
            number.requires_grad_()
        h = inputs[lane]
        for layer in range(2):
            z = functional.linear(
                h, numbers[f"layers.{layer}.weight"], numbers[f"layers.{layer}.bias"]
            )
            h = AUTOGRAD[activation](z, numbers.get(f"layers.{layer}.slope"))
        outputs = functional.linear(h, numbers["layers.2.weight"], numbers["layers.2.bias"])
        torch.testing.assert_close(predicted[lane], outputs.detach())
        loss = functional.cross_entropy if task == "classification" else functional.mse_loss
        total = loss(outputs, target[lane])
        torch.testing.assert_close(losses[lane].mean(), total.detach())
        torch.autograd.backward(total)
        made.parameters[lane] = made.gradient[lane]  # so that `arrays` names the gradient's parts
        for name, gradient in by_name(made, lane).items():
            torch.testing.assert_close(gradient, numbers[name].grad)


def test_dropout_keeps_the_asked_share_and_the_expected_value() -> None:
    rates = [0.0, 0.1, 0.5]
    rngs = [seeding.generator(lane, 0, 0) for lane in range(3)]
    dropout = Dropout(rates, rngs, [400, 100], rows=64, like=torch.empty(0))
    dropout.start([8, 8, 8])
    masks = [torch.cat([m.flatten(1) for m in dropout.masks(step)], 1) for step in range(8)]
    drawn = torch.cat(masks, 1)
    shares = (drawn == 0).double().mean(1)
    torch.testing.assert_close(shares, torch.tensor(rates).double(), atol=5e-3, rtol=0)
    torch.testing.assert_close(drawn.mean(1), torch.ones(3), atol=1e-2, rtol=0)
    assert not torch.equal(masks[0], masks[1])


@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("zeros", 0.0),
        ("normal", 0.05),
        ("uniform", 0.05 / 3**0.5),
        ("xavier_uniform", (2 / 500) ** 0.5),
        ("xavier_normal", (2 / 500) ** 0.5),
        ("he_uniform", (2 / 300) ** 0.5),
        ("he_normal", (2 / 300) ** 0.5),
        ("lecun_uniform", (1 / 300) ** 0.5),
        ("lecun_normal", (1 / 300) ** 0.5),
        ("orthogonal", (1 / 300) ** 0.5),
    ],
)
def test_initial_weights_have_the_published_spread(name: str, deviation: float) -> None:
    weights = INITIALIZATIONS[name](np.random.default_rng(0), 300, 200)
    assert weights.shape == (300, 200)
    assert weights.std() == pytest.approx(deviation, rel=0.02)
    if name == "orthogonal":
        np.testing.assert_allclose(weights.T @ weights, np.eye(200), atol=1e-9)
