"""The capsule network against the paper's formulas, written out for one network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hpo_service import catalog, errors
from workers.models.base import Shape
from workers.models.capsnet import Capsnet, size
from workers.training import seeding

LANES, ROWS, CLASSES = 2, 5, 3
SMALL = {"channels": 4, "primary_capsules": 2, "primary_dimensions": 3, "class_dimensions": 4,
         "decoder_units": 5, "decoder_units_2": 6}  # fmt: skip


def network(dims: tuple[int, ...] = (2, 8, 7), **params: Any) -> Capsnet:
    family = catalog.FAMILIES["capsnet"]
    lanes: list[Any] = [
        catalog.settings_of(family, SMALL | {"reconstruction": share} | params)
        for share in (0.01, 0.1)
    ]
    width = int(torch.tensor(dims).prod())
    shape = Shape("classification", width, CLASSES, torch.float64, torch.device("cpu"), dims=dims)
    made = Capsnet(lanes, [seeding.generator(lane, 0, 0) for lane in range(LANES)], shape)
    noise = torch.randn(
        made.parameters.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    made.parameters += 0.05 * noise
    made.start_epoch([2] * LANES)
    return made


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def plain_squash(s: Tensor) -> Tensor:
    norm = s.norm(dim=-1, keepdim=True)
    return norm**2 / (1 + norm**2) * s / norm


def plain(made: Capsnet, lane: int, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Capsules of the classes for one image, one primary capsule and class at a time."""
    numbers = {name: torch.tensor(array) for name, array in made.arrays(lane).items()}
    for number in numbers.values():
        number.requires_grad_()
    settings: Any = made.settings[lane]
    h = functional.conv2d(image, numbers["convolution.weight"], numbers["convolution.bias"]).relu()
    h = functional.conv2d(h, numbers["primary.weight"], numbers["primary.bias"], settings.stride)
    kinds = h.view(settings.primary_capsules, settings.primary_dimensions, *h.shape[1:])
    primary = [
        plain_squash(kind[:, y, x])
        for kind in kinds
        for y in range(h.shape[1])
        for x in range(h.shape[2])
    ]
    weight = numbers["capsules.weight"]
    said = torch.stack([
        torch.stack([weight[i, j] @ capsule for j in range(CLASSES)])
        for i, capsule in enumerate(primary)
    ])  # fmt: skip
    b = torch.zeros(len(primary), CLASSES, dtype=torch.float64)
    for _ in range(settings.routing_iterations - 1):
        v = plain_squash((b.softmax(1)[:, :, None] * said.detach()).sum(0))
        b = b + (said.detach() * v).sum(2)
    return plain_squash((b.softmax(1)[:, :, None] * said).sum(0)), numbers


def plain_loss(numbers: dict[str, Tensor], capsules: Tensor, image: Tensor, code: int,
               share: float, smoothing: float) -> Tensor:  # fmt: skip
    total = torch.zeros((), dtype=torch.float64)
    for j in range(CLASSES):
        t = (1 - smoothing) * (j == code) + smoothing / CLASSES
        length = capsules[j].norm()
        total = total + t * functional.relu(0.9 - length) ** 2
        total = total + 0.5 * (1 - t) * functional.relu(length - 0.1) ** 2
    h = (capsules * functional.one_hot(torch.tensor(code), CLASSES)[:, None]).flatten()
    for at in range(3):
        h = numbers[f"decoder.{at}.weight"] @ h + numbers[f"decoder.{at}.bias"]
        h = h.relu() if at < 2 else h
    return total + share * ((h - image.flatten()) ** 2).sum()


@pytest.mark.parametrize(
    "params",
    [{}, {"routing_iterations": 1}, {"kernel": 4, "stride": 1, "label_smoothing": 0.2}],
)
def test_losses_gradients_and_predictions_are_the_papers(params: dict[str, Any]) -> None:
    made, inputs = network(**params), drawn(LANES, ROWS, 112)
    target = torch.arange(LANES * ROWS).view(LANES, ROWS) % CLASSES
    losses, predicted = made.learn(0, inputs, target, 1 / ROWS), made.predict(inputs)
    for lane in range(LANES):
        settings: Any = made.settings[lane]
        found: dict[str, Tensor] = {}
        for row in range(ROWS):
            image = inputs[lane, row].view(2, 8, 7)
            capsules, numbers = plain(made, lane, image)
            loss = plain_loss(numbers, capsules, image, int(target[lane, row]),
                              settings.reconstruction, settings.label_smoothing)  # fmt: skip
            torch.testing.assert_close(losses[lane, row], loss.detach(), rtol=1e-6, atol=1e-6)
            squares = capsules.detach().square().sum(1)
            torch.testing.assert_close(
                predicted[lane, row].softmax(0), squares / squares.sum(), rtol=1e-5, atol=1e-5
            )
            torch.autograd.backward(loss / ROWS)
            for name, number in numbers.items():
                assert number.grad is not None
                found[name] = found.get(name, torch.zeros_like(number)) + number.grad
        for name, gradient in made.unpack(made.gradient, lane).items():
            torch.testing.assert_close(torch.tensor(gradient), found[name], rtol=1e-5, atol=1e-6)


def test_without_reconstruction_the_decoder_rests() -> None:
    made = network(reconstruction=0.0)
    target = torch.zeros(LANES, ROWS, dtype=torch.int64)
    made.learn(0, drawn(LANES, ROWS, 112), target, 1 / ROWS)
    gradients = made.unpack(made.gradient, 0)
    assert not any(array.any() for name, array in gradients.items() if "decoder" in name)
    assert gradients["capsules.weight"].any()


def test_weights_are_packed_as_they_were_unpacked() -> None:
    made = network()
    flat = torch.zeros_like(made.parameters)
    for lane in range(LANES):
        made.pack(made.unpack(made.parameters, lane), flat, lane)
    torch.testing.assert_close(flat, made.parameters, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("dims", "params"),
    [((1, 8, 8), {}), ((1, 1, 1), {"kernel": 9}), ((3, 4, 20), {"kernel": 9, "stride": 4})],
)
def test_sizes_are_counted_and_every_image_is_large_enough(
    dims: tuple[int, ...], params: dict[str, Any]
) -> None:
    made = network(dims, **params)
    assert size(made.settings[0], made.shape).numbers == made.parameters.shape[1]
    inputs = drawn(LANES, ROWS, made.shape.inputs)
    made.learn(0, inputs, torch.zeros(LANES, ROWS, dtype=torch.int64), 1 / ROWS)
    assert made.gradient.isfinite().all()
    assert made.predict(inputs).shape == (LANES, ROWS, CLASSES)


def test_augmented_images_are_what_is_painted() -> None:
    made, inputs = network(shift=2), drawn(LANES, 32, 112)
    made.learn(0, inputs, torch.zeros(LANES, 32, dtype=torch.int64), 1 / 32)
    assert not torch.equal(made._seen.flatten(2), inputs)
    made.predict(inputs)
    assert torch.equal(made._seen.flatten(2), inputs)


def test_rows_that_are_no_images_are_refused() -> None:
    for dims in ((), (8, 2)):
        with pytest.raises(errors.InvalidRequest, match="capsnet needs images"):
            network(dims)
    with pytest.raises(errors.InvalidRequest, match=r"params\.crop: 7 leaves nothing"):
        network(crop=7)
