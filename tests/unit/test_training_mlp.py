"""The hand-written backward pass against autograd, and the draws of dropout and weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from hpo_service import catalog, protocol
from hpo_service.catalog.mlp import MlpHyperparameters
from hpo_service.catalog.perceptron import PerceptronHyperparameters
from workers.models.activations import ACTIVATIONS
from workers.models.base import Shape
from workers.models.dropout import Dropout
from workers.models.initializations import INITIALIZATIONS
from workers.models.mlp import Mlp
from workers.models.perceptron import Perceptron
from workers.training import seeding


def straight_through(z: torch.Tensor) -> torch.Tensor:
    smooth = torch.sigmoid(z)
    return smooth + ((z > 0).to(z) - smooth).detach()


AUTOGRAD: dict[str, Any] = {
    "sigmoid": lambda z, slope: torch.sigmoid(z),
    "tanh": lambda z, slope: torch.tanh(z),
    "relu": lambda z, slope: functional.relu(z),
    "leaky_relu": lambda z, slope: functional.leaky_relu(z, 0.2),
    "prelu": lambda z, slope: functional.prelu(z, slope),
    "swish": lambda z, slope: functional.silu(z),
    "gelu": lambda z, slope: functional.gelu(z),
    "step": lambda z, slope: straight_through(z),
}
Arrays = dict[str, torch.Tensor]
INPUTS, BLOCKS = 7, ((0, 2), (4, 7))


def network(task: protocol.Task, settings: list[dict[str, Any]]) -> Mlp:
    """Lanes on rows of 7 columns, two blocks of which are one-hot, and 3 outputs."""
    made = [catalog.settings_of(catalog.FAMILIES["mlp"], each) for each in settings]
    shape = Shape(task, INPUTS, 3, torch.float64, torch.device("cpu"), blocks=BLOCKS)
    network = Mlp(made, [seeding.generator(s, 0, 0) for s in range(len(made))], shape)
    torch.manual_seed(0)
    for lane in range(len(made)):
        moved = {
            name: array + 0.1 * torch.randn(array.shape, dtype=torch.float64).numpy()
            for name, array in network.unpack(network.parameters, lane).items()
        }
        network.pack(moved, network.parameters, lane)
    return network


def batch(lanes: int, rows: int = 8) -> torch.Tensor:
    inputs = torch.randn(lanes, rows, INPUTS, dtype=torch.float64)
    for start, stop in BLOCKS:
        codes = torch.randint(0, stop - start, (lanes, rows))
        inputs[:, :, start:stop] = functional.one_hot(codes, stop - start)
    return inputs


def reference(numbers: Arrays, params: dict[str, Any], inputs: torch.Tensor) -> torch.Tensor:
    """One lane's outputs, from its numbers by name, as PyTorch users would write it."""
    if params.get("embedding"):
        blocks = [inputs[:, start:stop] for start, stop in BLOCKS]
        first, second = (
            block @ numbers[f"embeddings.{at}.weight"] for at, block in enumerate(blocks)
        )
        inputs = torch.cat([first, inputs[:, 2:4], second], dim=1)
    layers = len([name for name in numbers if name.startswith("layers.") and "weight" in name])
    h = inputs
    for at in range(layers):
        of = {kind: numbers.get(f"layers.{at}.{kind}") for kind in KINDS}
        z = functional.linear(h, numbers[f"layers.{at}.weight"], of["bias"])
        if at == layers - 1:
            return z
        if params.get("normalization") == "batch":
            z = functional.batch_norm(z, None, None, of["scale"], of["shift"], training=True)
        if params.get("normalization") == "layer":
            z = functional.layer_norm(z, z.shape[1:], of["scale"], of["shift"])
        h = AUTOGRAD[params.get("activation", "relu")](z, of["slope"])
    return h


KINDS = ("bias", "slope", "scale", "shift")


def check(task: protocol.Task, settings: list[dict[str, Any]]) -> None:
    """Losses and gradients of every lane agree with autograd's; of padding they are 0."""
    made = network(task, settings)
    lanes, rows = len(settings), 8
    inputs, target = batch(lanes), torch.randint(0, 3, (lanes, rows))
    if task == "regression":
        target = torch.randn(lanes, rows, 3, dtype=torch.float64)
    # Six rows are real and two are padding, with numbers that must not matter.
    weights = torch.full((lanes, rows), 1 / 6, dtype=torch.float64)
    weights[:, 6:] = 0
    losses = made.learn(0, inputs, target, weights)
    predicted = made.predict(inputs)
    for lane, params in enumerate(settings):
        numbers = {n: torch.tensor(a) for n, a in made.unpack(made.parameters, lane).items()}
        for number in numbers.values():
            number.requires_grad_()
        outputs = reference(numbers, params, inputs[lane, :6])
        if params.get("normalization") != "batch":
            torch.testing.assert_close(predicted[lane, :6], outputs.detach())
        if task == "classification":
            smoothing = params.get("label_smoothing", 0.0)
            total = functional.cross_entropy(outputs, target[lane, :6], label_smoothing=smoothing)
        else:
            total = functional.mse_loss(outputs, target[lane, :6])
        torch.testing.assert_close(losses[lane, :6].mean(), total.detach())
        torch.autograd.backward(total)
        found = made.unpack(made.gradient, lane)
        assert list(found) == list(numbers)
        for name, gradient in found.items():
            torch.testing.assert_close(torch.tensor(gradient), numbers[name].grad)
        assert sum(number.numel() for number in numbers.values()) == made.sizes[lane]
        real = sum(np.count_nonzero(gradient) for gradient in found.values())
        assert np.count_nonzero(made.gradient[lane].numpy()) == real


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("normalization", ["none", "batch", "layer"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_and_predictions_agree_with_autograd(
    activation: str, normalization: str, task: protocol.Task
) -> None:
    params = {"activation": activation, "leaky_slope": 0.2, "normalization": normalization}
    check(task, [params | {"hidden_units": [5, 6]}, params | {"hidden_units": [5, 6]}])


@pytest.mark.parametrize("normalization", ["none", "batch", "layer"])
@pytest.mark.parametrize(("embedding", "bias"), [(3, True), (0, False), (2, False)])
def test_embeddings_missing_biases_and_smooth_labels_agree_with_autograd(
    embedding: int, bias: bool, normalization: str
) -> None:
    params = {"embedding": embedding, "bias": bias, "normalization": normalization}
    params |= {"hidden_layers": 3, "hidden_units": 4, "activation": "tanh"}
    check("classification", [params | {"label_smoothing": each} for each in (0.0, 0.3)])


def test_running_statistics_are_those_of_pytorch_over_real_rows() -> None:
    made = network("classification", [{"normalization": "batch", "hidden_units": [4]}] * 2)
    peers = [torch.nn.BatchNorm1d(4, dtype=torch.float64) for _ in range(2)]
    for step in range(3):
        inputs, target = batch(2), torch.zeros(2, 8, dtype=torch.long)
        # Lane 1 has fewer rows than lane 0, and none left in the last step.
        weights = torch.ones(2, 8, dtype=torch.float64) / 8
        weights[1, 5 if step < 2 else 0 :] = 0
        made.learn(step, inputs, target, weights)
        for lane, peer in enumerate(peers):
            if (weights[lane] > 0).any():
                rows = inputs[lane, weights[lane] > 0]
                peer(rows @ torch.tensor(made.arrays(lane)["layers.0.weight"]).T)
    for lane, peer in enumerate(peers):
        numbers = {name: torch.tensor(array) for name, array in made.arrays(lane).items()}
        torch.testing.assert_close(numbers["layers.0.mean"], peer.running_mean)
        torch.testing.assert_close(numbers["layers.0.variance"], peer.running_var)
        peer.eval()
        peer.weight.data, peer.bias.data = numbers["layers.0.scale"], numbers["layers.0.shift"]
        h = functional.relu(peer(inputs[lane] @ numbers["layers.0.weight"].T))
        outputs = functional.linear(h, numbers["layers.1.weight"], numbers["layers.1.bias"])
        torch.testing.assert_close(made.predict(inputs)[lane], outputs.detach())


@pytest.mark.parametrize("classes", [2, 4])
def test_a_perceptron_learns_as_rosenblatt_says(classes: int) -> None:
    generator = np.random.default_rng(1)
    centres = 4 * generator.standard_normal((classes, 3))
    target = generator.integers(0, classes, 60)
    inputs = centres[target] + 0.3 * generator.standard_normal((60, 3))
    settings = PerceptronHyperparameters(initialization="zeros")
    shape = Shape("classification", 3, classes, torch.float64, torch.device("cpu"))
    made = Perceptron([settings], [seeding.generator(0, 0, 0)], shape)
    weights, biases = np.zeros((classes, 3)), np.zeros(classes)
    mistakes = 0
    for row, true in [*zip(inputs, target, strict=True)] * 20:
        taken = int((weights @ row + biases).argmax())
        codes = torch.tensor([[true]])
        loss = made.learn(0, torch.from_numpy(row).view(1, 1, 3), codes, 1.0)
        sums = weights @ row + biases
        assert loss.item() == pytest.approx(sums[taken] - sums[true])
        made.parameters -= made.gradient
        if taken != true:
            mistakes += 1
            weights[true] += row
            weights[taken] -= row
            biases[true] += 1
            biases[taken] -= 1
        np.testing.assert_allclose(made.arrays(0)["layers.0.weight"], weights)
        np.testing.assert_allclose(made.arrays(0)["layers.0.bias"], biases)
    assert 0 < mistakes < 60
    assert (made.predict(torch.from_numpy(inputs)[None])[0].argmax(1).numpy() == target).all()


def test_the_surrogate_rule_is_the_cross_entropy_without_a_bias() -> None:
    settings = PerceptronHyperparameters(rule="surrogate", bias=False, label_smoothing=0.1)
    shape = Shape("classification", 3, 4, torch.float64, torch.device("cpu"))
    made = Perceptron([settings], [seeding.generator(0, 0, 0)], shape)
    inputs, target = torch.randn(1, 8, 3, dtype=torch.float64), torch.randint(0, 4, (1, 8))
    losses = made.learn(0, inputs, target, 1 / 8)
    assert list(made.arrays(0)) == ["layers.0.weight"]
    weight = torch.tensor(made.arrays(0)["layers.0.weight"]).requires_grad_()
    loss = functional.cross_entropy(inputs[0] @ weight.T, target[0], label_smoothing=0.1)
    torch.autograd.backward(loss)
    torch.testing.assert_close(losses.mean(), loss.detach())
    found = made.unpack(made.gradient, 0)["layers.0.weight"]
    torch.testing.assert_close(torch.tensor(found), weight.grad)


@pytest.mark.parametrize(
    ("form", "layers", "widths"),
    [
        ("constant", 3, (64, 64, 64)),
        ("funnel", 1, (64,)),
        ("funnel", 2, (64, 16)),
        ("funnel", 3, (64, 32, 16)),
        ("diamond", 1, (64,)),
        ("diamond", 2, (64, 64)),
        ("diamond", 3, (16, 64, 16)),
        ("diamond", 6, (16, 32, 64, 64, 32, 16)),
    ],
)
def test_a_form_gives_the_widths(form: Any, layers: int, widths: tuple[int, ...]) -> None:
    assert MlpHyperparameters(hidden_layers=layers, shape=form).widths == widths
    with pytest.raises(ValueError, match="needs one number"):
        MlpHyperparameters(hidden_units=[4, 4], shape="funnel")


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


def test_lanes_that_are_left_without_dropout_cost_no_memory() -> None:
    rngs = [seeding.generator(lane, 0, 0) for lane in range(2)]
    dropout = Dropout([0.5, 0.0], rngs, [40], rows=8, like=torch.empty(0))
    dropout.keep([1])
    dropout.start([3])
    (mask,) = dropout.masks(0)
    assert torch.equal(mask, torch.ones(1, 8, 40))
    assert mask.untyped_storage().nbytes() < 2**22
