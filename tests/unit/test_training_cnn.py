"""The convolutional network against PyTorch's layers, packed and alone, with padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hpo_service import catalog, errors, protocol
from tests import training
from workers.data.dataset import Dataset
from workers.data.folds import splits
from workers.data.parts import Table, split
from workers.models.base import Shape
from workers.models.cnn import MODEL, Cnn, size
from workers.training import seeding

LANES, ROWS, OUTPUTS = 2, 6, 3
IMAGE, SIGNAL = (2, 9, 7), (11, 2)

ACTIVATIONS: dict[str, Any] = {
    "relu": lambda z, slope: functional.relu(z),
    "prelu": functional.prelu,
    "swish": lambda z, slope: functional.silu(z),
    "tanh": lambda z, slope: torch.tanh(z),
}


def network(dims: tuple[int, ...], task: protocol.Task = "classification", **params: Any) -> Cnn:
    settings: Any = catalog.settings_of(catalog.FAMILIES["cnn"], {"dropout": 0.0} | params)
    width = int(np.prod(dims)) + (len(dims) == 2)
    shape = Shape(task, width, OUTPUTS, torch.float64, torch.device("cpu"), dims=dims)
    rngs = [seeding.generator(lane, 0, 0) for lane in range(LANES)]
    made = Cnn([settings] * LANES, rngs, shape)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(made.parameters.shape, dtype=torch.float64, generator=generator)
    made.parameters += 0.1 * noise
    made.start_epoch([3] * LANES)
    return made


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def rows_of(dims: tuple[int, ...], lengths: Any = None) -> Tensor:
    """Made-up rows; signals are 0 after their end and have their length last."""
    if len(dims) == 3:
        return drawn(LANES, ROWS, int(np.prod(dims)))
    lengths = torch.full((LANES, ROWS), dims[0]) if lengths is None else lengths
    real = torch.arange(dims[0]) < lengths[..., None]
    flat = (drawn(LANES, ROWS, *dims) * real[..., None]).flatten(2)
    return torch.cat([flat, lengths[..., None].double()], 2)


def plain(made: Cnn, lane: int, inputs: Tensor, params: dict[str, Any], train: bool) -> Any:
    """The same network by PyTorch's own layers; its output and its weights."""
    numbers = {name: torch.tensor(array) for name, array in made.arrays(lane).items()}
    for number in numbers.values():
        number.requires_grad_()
    signal = len(made.shape.dims) == 2
    act = ACTIVATIONS[params.get("activation", "relu")]
    h = inputs[lane].reshape(ROWS, *made.shape.dims) if not signal else (
        inputs[lane][:, :-1].reshape(ROWS, *made.shape.dims).transpose(1, 2)
    )  # fmt: skip
    for at in range(params["hidden_layers"]):
        weight, bias = numbers[f"blocks.{at}.weight"], numbers[f"blocks.{at}.bias"]
        gain, slope = numbers.get(f"blocks.{at}.gain"), numbers.get(f"blocks.{at}.slope")
        convolution: Any = functional.conv1d if signal else functional.conv2d
        weight = weight[:, :, 0] if signal else weight
        padding = weight.shape[2] // 2 if signal else (weight.shape[2] // 2, weight.shape[3] // 2)
        own = bias if gain is None else None
        h = convolution(h, weight, own, stride=params.get("stride", 1), padding=padding)
        if params["normalization"] == "batch":
            mean = made.statistics[f"blocks.{at}.mean"][lane].clone()
            variance = made.statistics[f"blocks.{at}.variance"][lane].clone()
            h = functional.batch_norm(h, mean, variance, gain, bias, train)
        elif params["normalization"] == "layer":
            h = functional.group_norm(h, 1, gain, bias)
        h = act(h, slope)
        if params["pooling"] != "none":
            kind = f"{params['pooling'].replace('average', 'avg')}_pool{1 if signal else 2}d"
            kernel = [2 if side >= 4 else 1 for side in h.shape[2:]]
            h = getattr(functional, kind)(h, kernel)
    h = h.flatten(1) if params["head"] == "dense" else h.flatten(2).mean(2)
    if params["head"] == "dense":
        h = functional.linear(h, numbers["head.weight"], numbers["head.bias"])
        h = act(h, numbers.get("head.slope"))
    return functional.linear(h, numbers["output.weight"], numbers["output.bias"]), numbers


CASES: list[tuple[tuple[int, ...], protocol.Task, dict[str, Any]]] = [
    (IMAGE, "classification", {"normalization": "batch", "pooling": "max", "head": "dense"}),
    (IMAGE, "regression", {"normalization": "layer", "pooling": "average", "head": "global"}),
    (IMAGE, "classification", {"normalization": "none", "pooling": "none", "head": "global",
                               "stride": 2, "activation": "swish"}),
    ((1, 8, 8), "classification", {"normalization": "batch", "pooling": "average", "head": "dense",
                                   "activation": "prelu", "kernel": 5}),
    (SIGNAL, "classification", {"normalization": "batch", "pooling": "max", "head": "global"}),
    (SIGNAL, "regression", {"normalization": "layer", "pooling": "none", "head": "dense",
                            "activation": "tanh", "stride": 3}),
]  # fmt: skip


@pytest.mark.parametrize(("dims", "task", "params"), CASES)
def test_gradients_and_predictions_are_those_of_pytorchs_layers(
    dims: tuple[int, ...], task: protocol.Task, params: dict[str, Any]
) -> None:
    params = {"hidden_layers": 2, "channels": 3} | params
    made, inputs = network(dims, task, **params), rows_of(dims)
    target = torch.arange(LANES * ROWS).view(LANES, ROWS) % OUTPUTS
    target = target if task == "classification" else drawn(LANES, ROWS, OUTPUTS)
    before = [plain(made, lane, inputs, params, train=True) for lane in range(LANES)]
    losses = made.learn(0, inputs, target, 1 / ROWS)
    predicted = made.predict(inputs)
    loss = functional.cross_entropy if task == "classification" else functional.mse_loss
    for lane, (outputs, numbers) in enumerate(before):
        total = loss(outputs, target[lane])
        torch.testing.assert_close(losses[lane].mean(), total.detach())
        torch.autograd.backward(total)
        for name, gradient in made.unpack(made.gradient, lane).items():
            torch.testing.assert_close(torch.tensor(gradient), numbers[name].grad)
        wanted = plain(made, lane, inputs, params, train=False)[0]
        torch.testing.assert_close(predicted[lane], wanted.detach())


def test_batch_statistics_are_kept_as_pytorch_keeps_them() -> None:
    made, layer = network((1, 8, 8), normalization="batch", hidden_layers=1), nn.BatchNorm2d(16)
    layer = layer.double()
    inputs = rows_of((1, 8, 8))
    target = torch.zeros(LANES, ROWS, dtype=torch.int64)
    for step in range(3):
        made.learn(step, inputs, target, 1 / ROWS)
        weight = torch.tensor(made.arrays(1)["blocks.0.weight"])
        layer(functional.conv2d(inputs[1].view(ROWS, 1, 8, 8), weight, padding=1))
    found = made.arrays(1)
    np.testing.assert_allclose(found["blocks.0.mean"], layer.running_mean)
    np.testing.assert_allclose(found["blocks.0.variance"], layer.running_var)


@pytest.mark.parametrize("normalization", ["none", "batch", "layer"])
@pytest.mark.parametrize("dims", [IMAGE, SIGNAL])
def test_nothing_depends_on_padded_rows(dims: tuple[int, ...], normalization: str) -> None:
    target = torch.arange(LANES * ROWS).view(LANES, ROWS) % OUTPUTS
    weights = torch.full((LANES, ROWS), 0.25, dtype=torch.float64)
    weights[0, 4:], weights[1] = 0, 0
    found = []
    for junk in (0.0, 100.0):
        made, inputs = network(dims, normalization=normalization), rows_of(dims)
        first = made.arrays(1)
        inputs[0, 4:, : np.prod(dims)] += junk
        losses = made.learn(0, inputs, target, weights)
        found.append((losses[0, :4], made.gradient.clone(), *made.statistics.values()))
        # A lane without any real row stays as it is.
        assert not made.gradient[1].any()
        for name, array in made.arrays(1).items():
            np.testing.assert_array_equal(array, first[name])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("normalization", ["none", "batch", "layer"])
def test_nothing_depends_on_steps_after_the_end(normalization: str) -> None:
    params = {"normalization": normalization, "head": "global"}
    made = [network((steps, 2), **params) for steps in (8, 12)]
    made[1].pack(made[0].arrays(0), made[1].parameters, 0)
    wide = rows_of((12, 2), torch.full((LANES, ROWS), 8))
    tight = torch.cat([wide[:, :, :16], wide[:, :, -1:]], 2)
    target = torch.zeros(LANES, ROWS, dtype=torch.int64)
    for each, inputs in zip(made, (tight, wide), strict=True):
        each.learn(0, inputs, target, 1 / ROWS)
    torch.testing.assert_close(made[0].gradient[0], made[1].gradient[0])
    torch.testing.assert_close(made[0].predict(tight)[0], made[1].predict(wide)[0])
    for name in made[0].statistics:
        torch.testing.assert_close(made[0].statistics[name][0], made[1].statistics[name][0])


def image_table(rows: int = 43) -> Table:
    """Bright corners to be told apart; folds of unequal size."""
    rng = np.random.default_rng(0)
    images, target = rng.standard_normal((rows, 1, 6, 6)), np.arange(rows) % 3
    for code, (y, x) in enumerate([(0, 0), (3, 0), (0, 3)]):
        images[target == code, 0, y : y + 3, x : x + 3] += 1.5
    columns = [protocol.Column(name=str(at), kind="numeric") for at in range(36)]
    schema = protocol.DatasetSchema(
        task="classification", rows=rows, columns=columns, target=["t"],
        classes=["a", "b", "c"], shape=[1, 6, 6],
    )  # fmt: skip
    data = Dataset(schema, images.reshape(rows, -1), np.empty((rows, 0), dtype=np.int64), target)
    parts = split(data, splits(data, protocol.Validation(folds=3), 0), "structured")
    return Table.of(schema, parts, torch.float64, training.CPU)


@pytest.mark.parametrize("normalization", ["none", "batch", "layer"])
def test_a_lane_computes_the_same_packed_and_alone(normalization: str) -> None:
    rows = image_table()
    shared = {"batch_size": 7, "normalization": normalization, "channels": 4}
    settings: list[tuple[dict[str, Any], int, int]] = [
        ({"dropout": 0.0, "shift": 1} | shared, 0, 5),
        ({"dropout": 0.3, "flip": True, "crop": 2} | shared, 1, 6),
        ({"dropout": 0.1} | shared, 2, 7),
    ]
    packed = training.lanes(rows, "cnn", settings)
    alone = [training.lanes(rows, "cnn", [each]) for each in settings]
    for _ in range(4):
        apart = torch.cat([each.epoch() for each in alone])
        torch.testing.assert_close(packed.epoch(), apart, rtol=1e-9, atol=1e-9)
    packed.keep([0, 2])
    for _ in range(3):
        packed.epoch()
        for each in alone:
            each.epoch()
    found = packed.predict()
    for lane, other in enumerate((alone[0], alone[2])):
        torch.testing.assert_close(found[lane], other.predict()[0], rtol=1e-9, atol=1e-9)


def test_it_learns() -> None:
    lanes = training.lanes(image_table(), "cnn", [({"dropout": 0.0}, 0, 0), ({}, 1, 1)])
    losses = torch.stack([lanes.epoch() for _ in range(12)])
    assert (losses[-1] < 0.5 * losses[0]).all()


def test_weights_are_packed_as_they_were_unpacked() -> None:
    made = network(IMAGE, activation="prelu")
    flat = torch.zeros_like(made.parameters)
    for lane in range(LANES):
        made.pack(made.unpack(made.parameters, lane), flat, lane)
    torch.testing.assert_close(flat, made.parameters, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("dims", "params"),
    [
        (IMAGE, {}),
        (IMAGE, {"head": "global", "normalization": "none"}),
        (SIGNAL, {"hidden_layers": 6, "kernel": 11}),
        ((1, 1, 1), {"kernel": 11, "stride": 4, "normalization": "layer"}),
        ((3, 2, 30), {"kernel": 7, "stride": 3, "activation": "prelu"}),
    ],
)
def test_sizes_are_counted_and_every_image_is_large_enough(
    dims: tuple[int, ...], params: dict[str, Any]
) -> None:
    made = network(dims, **params)
    slopes = sum(array.size for name, array in made.arrays(0).items() if name.endswith("slope"))
    gains = sum(b.outputs for b in made._blocks) * (made._normalization == "none")
    numbers = size(made.settings[0], made.shape).numbers
    assert numbers == made.parameters.shape[1] - slopes + gains
    made.learn(0, rows_of(dims), torch.zeros(LANES, ROWS, dtype=torch.int64), 1 / ROWS)
    assert made.predict(rows_of(dims)).isfinite().all()


def test_what_cannot_be_is_refused() -> None:
    family = catalog.FAMILIES["cnn"]
    for params, wrong in (
        ({"kernel": 4}, "take an odd number"),
        ({"channels": 1024, "channel_growth": 4.0, "hidden_layers": 4}, "grow to 65536"),
    ):
        with pytest.raises(errors.InvalidRequest, match=wrong):
            catalog.settings_of(family, params)
    for dims, more, wrong in (
        ((), {}, "needs images or sequences"),
        (IMAGE, {"shift": 7}, r"params\.shift: 7 leaves nothing of an image of 9 x 7: at most 6"),
        (IMAGE, {"crop": 8}, r"params\.crop: 8 leaves nothing"),
        (SIGNAL, {"shift": 11}, "of a signal of 11 steps"),
        (SIGNAL, {"flip": True}, r"params\.flip: for images only"),
    ):
        with pytest.raises(errors.InvalidRequest, match=wrong):
            network(dims, **more)
    assert MODEL.layout == "structured"
