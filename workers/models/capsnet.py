"""The capsule network (Sabour, Frosst and Hinton 2017), for small images.

A convolution; primary capsules, a convolution whose channels are vectors; a capsule for each class,
made of the primary ones' predictions by routing by agreement. A capsule's length says how likely
its class is there. A decoder paints the image from the true class's capsule, which keeps what the
capsules know rich. As images are standardised here, it paints numbers, not shares of brightness.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hpo_service import errors
from hpo_service.catalog.capsnet import CapsnetHyperparameters
from workers.models import augmentation
from workers.models.augmentation import Augmentation
from workers.models.autograd import AutogradNetwork, Weights, constant, drawn
from workers.models.base import NetworkModel, Shape, Size
from workers.models.convolution import by_lane, convolve, linear, side_by_side

# The true class's capsule is to be longer than PRESENT, others are to be shorter than ABSENT.
PRESENT, ABSENT, ABSENT_SHARE = 0.9, 0.1, 0.5
# Keeps the derivative of a length finite at 0.
TINY = 1e-8

Pair = tuple[int, int]


class Capsnet(AutogradNetwork):
    """Lanes of one capsule network's shape; see `base.Network`.

    Convolutions have no padding; a kernel is at most as large as what it is laid on. Derivatives
    flow through the last round of routing; how the rounds before it weigh the predictions counts
    as given, as in most implementations. Raises `InvalidRequest` where rows are no images, and for
    an augmentation that leaves nothing of them.
    """

    def __init__(
        self,
        settings: Sequence[CapsnetHyperparameters],
        rngs: Sequence[np.random.Generator],
        shape: Shape,
    ) -> None:
        _, *sides = grid(shape)
        self._sides = sides[0], sides[1]
        for each in settings:
            augmentation.check(each, self._sides, signal=False)
        self._kernels, self._places = places(settings[0], shape)
        self.values = size(settings[0], shape).values
        super().__init__(settings, rngs, shape)
        self._augmentation = None
        if Augmentation.needed(settings):
            self._augmentation = Augmentation(settings, rngs, self._sides, self.parameters)
        self._painted = self._shares()

    def declare(self) -> list[Weights]:
        s: Any = self.settings[0]
        classes, count = self.shape.outputs, s.primary_capsules * self._places[0] * self._places[1]
        capsules = (count, classes, s.class_dimensions, s.primary_dimensions)
        units = [classes * s.class_dimensions, s.decoder_units, s.decoder_units_2]
        widths = [*units, self.shape.inputs]
        found = [
            *_convolution("convolution", self.shape.dims[0], s.channels, self._kernels[0]),
            *_convolution(
                "primary", s.channels, s.primary_capsules * s.primary_dimensions, self._kernels[1]
            ),
            _transforms(capsules),
        ]
        for at in range(3):
            weight = (widths[at + 1], widths[at])
            found.append(drawn(f"decoder.{at}.weight", weight, widths[at], widths[at + 1]))
            found.append(constant(f"decoder.{at}.bias", (widths[at + 1],)))
        return found

    def start_epoch(self, steps: Sequence[int]) -> None:
        super().start_epoch(steps)
        if self._augmentation:
            self._augmentation.start(steps)

    def keep(self, lanes: Sequence[int]) -> None:
        super().keep(lanes)
        if self._augmentation:
            self._augmentation.keep(lanes)
        self._painted = self._shares()

    def forward(self, inputs: Tensor, train: bool) -> Tensor:
        """Logits, whose softmax is each squared length's share; in training the capsules,
        (lanes, rows, classes, dimensions).
        """
        images = inputs.view(*inputs.shape[:2], *self.shape.dims)
        if train and self._augmentation:
            images, _ = self._augmentation.apply(self.step, images, None)
        self._seen = images
        capsules = self._route(self._predictions(self._primary(images)))
        return capsules if train else torch.log(capsules.square().sum(3) + TINY)

    def losses(self, outputs: Tensor, inputs: Tensor, target: Tensor) -> Tensor:
        """The margin loss and the reconstruction's squared error, of each row."""
        lengths = torch.sqrt(outputs.square().sum(3) + TINY)
        truth = functional.one_hot(target, self.shape.outputs).to(lengths)
        share = truth
        if self.smoothing is not None:
            smoothing = self.smoothing.view(-1, 1, 1)
            share = truth * (1 - smoothing) + smoothing / self.shape.outputs
        present = (PRESENT - lengths).clamp(min=0).square()
        absent = ABSENT_SHARE * (lengths - ABSENT).clamp(min=0).square()
        losses = (share * present + (1 - share) * absent).sum(2)
        if self._painted is None:
            return losses
        painted = self._paint((outputs * truth.unsqueeze(3)).flatten(2))
        errors = (painted - self._seen.flatten(2)).square().sum(2)
        return losses + self._painted * errors

    def _primary(self, images: Tensor) -> Tensor:
        """Primary capsules, (lanes, capsules, rows, dimensions)."""
        settings: Any = self.settings[0]
        values = functional.relu(self._convolve("convolution", side_by_side(images), 1))
        values = by_lane(self._convolve("primary", values, settings.stride), len(images))
        kinds = (settings.primary_capsules, settings.primary_dimensions)
        split = values.reshape(*values.shape[:2], *kinds, *values.shape[3:])
        return squash(split.permute(0, 2, 4, 5, 1, 3).flatten(1, 3))

    def _predictions(self, primary: Tensor) -> Tensor:
        """Of every primary capsule for every class, (lanes, rows, classes, capsules, numbers)."""
        weight = self.weights["capsules.weight"]
        found = torch.matmul(primary, weight.flatten(2, 3).transpose(2, 3))
        split = found.view(*found.shape[:3], *weight.shape[2:4])
        return split.permute(0, 2, 3, 1, 4).contiguous()

    def _route(self, predictions: Tensor) -> Tensor:
        """Capsules of the classes by agreement, (lanes, rows, classes, numbers)."""
        settings: Any = self.settings[0]
        given = predictions.detach()
        agreed = given.new_zeros(given.shape[:4])
        for _ in range(settings.routing_iterations - 1):
            capsules = squash(_gather(torch.softmax(agreed, dim=2), given))
            agreed = agreed + torch.matmul(given, capsules.unsqueeze(4)).squeeze(4)
        return squash(_gather(torch.softmax(agreed, dim=2), predictions))

    def _paint(self, hidden: Tensor) -> Tensor:
        for at in range(3):
            weight, bias = (self.weights[f"decoder.{at}.{name}"] for name in ("weight", "bias"))
            hidden = linear(hidden, weight, bias)
            hidden = functional.relu(hidden) if at < 2 else hidden
        return hidden

    def _convolve(self, name: str, values: Tensor, stride: int) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return convolve(values, weight, bias, (stride, stride))

    def _shares(self) -> Tensor | None:
        """What the reconstruction counts in each lane, (lanes, 1); None where in none."""
        found = [settings.reconstruction for settings in self.settings]
        return self.parameters.new_tensor(found).unsqueeze(1) if any(found) else None


def squash(vectors: Tensor) -> Tensor:
    """The same direction, and a length below 1: short ones almost 0, long ones almost 1."""
    squares = vectors.square().sum(-1, keepdim=True)
    return vectors * (torch.sqrt(squares + TINY) / (1 + squares))


def _gather(shares: Tensor, predictions: Tensor) -> Tensor:
    """Predictions weighted by shares (lanes, rows, classes, capsules), summed over capsules."""
    return torch.matmul(shares.unsqueeze(3), predictions).squeeze(3)


def _transforms(shape: tuple[int, ...]) -> Weights:
    """Predictions of about a primary capsule's length, whatever the initialization of the rest."""

    def draw(settings: Any, rng: np.random.Generator) -> NDArray[np.float64]:
        found: NDArray[np.float64] = rng.standard_normal(shape) / shape[-1] ** 0.5
        return found

    return Weights("capsules.weight", shape, draw)


def _convolution(name: str, inputs: int, outputs: int, kernel: Pair) -> list[Weights]:
    area = kernel[0] * kernel[1]
    shape = (outputs, inputs, *kernel)
    weight = drawn(f"{name}.weight", shape, inputs * area, outputs * area)
    return [weight, constant(f"{name}.bias", (outputs,))]


def grid(shape: Shape) -> tuple[int, int, int]:
    """Channels, height and width of a row; `InvalidRequest` where it is no image of one class."""
    if len(shape.dims) != 3 or shape.task != "classification":
        raise errors.invalid("objective.model", "capsnet needs images, each of one class")
    return shape.dims[0], shape.dims[1], shape.dims[2]


def places(settings: CapsnetHyperparameters, shape: Shape) -> tuple[list[Pair], Pair]:
    """Both kernels, and at how many places along height and width primary capsules are."""
    _, *sides = grid(shape)
    first = [min(settings.kernel, side) for side in sides]
    left = [side - kernel + 1 for side, kernel in zip(sides, first, strict=True)]
    second = [min(settings.kernel, side) for side in left]
    at = [(side - k) // settings.stride + 1 for side, k in zip(left, second, strict=True)]
    return [(first[0], first[1]), (second[0], second[1])], (at[0], at[1])


def shape(settings: CapsnetHyperparameters) -> Hashable:
    """What two settings must share to be lanes of one pass."""
    return (
        settings.channels, settings.kernel, settings.stride, settings.primary_capsules,
        settings.primary_dimensions, settings.class_dimensions, settings.routing_iterations,
        settings.decoder_units, settings.decoder_units_2,
    )  # fmt: skip


def size(settings: CapsnetHyperparameters, shape: Shape) -> Size:
    """What a lane needs; most values are the primary capsules' predictions."""
    (first, second), at = places(settings, shape)
    channels, height, width = grid(shape)
    primary = settings.primary_capsules * settings.primary_dimensions
    capsules = settings.primary_capsules * at[0] * at[1]
    classes = shape.outputs * settings.class_dimensions
    units = [classes, settings.decoder_units, settings.decoder_units_2, shape.inputs]
    numbers = settings.channels * (channels * first[0] * first[1] + 1)
    numbers += primary * (settings.channels * second[0] * second[1] + 1)
    numbers += capsules * settings.primary_dimensions * classes
    numbers += sum((units[i] + 1) * units[i + 1] for i in range(3))
    values = 2 * settings.channels * (height - first[0] + 1) * (width - first[1] + 1)
    values += 4 * capsules * settings.primary_dimensions + 2 * sum(units)
    # Predictions, in two orders, and their gradient; agreement and shares.
    values += 3 * capsules * classes + 3 * capsules * shape.outputs
    return Size(numbers, values + 2 * shape.inputs)


def _probe(side: int, **params: Any) -> tuple[CapsnetHyperparameters, Shape]:
    device, dims = torch.device("cpu"), (1, side, side)
    shape = Shape("classification", side * side, 10, torch.float32, device, dims=dims)
    return CapsnetHyperparameters(**params), shape


MODEL = NetworkModel(
    shape=shape,
    build=Capsnet,
    size=size,
    layout="structured",
    exact={"routing_iterations": 1},
    probes=(
        _probe(8, channels=16, primary_capsules=4),
        _probe(16, channels=32, kernel=5),
        _probe(28, channels=64, kernel=9),
    ),
)
