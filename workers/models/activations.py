"""Activations with their derivatives, one entry for each name of `catalog.activations`.

All work on (lanes, rows, units) buffers and write into a given one, so that a step allocates
nothing. `slope` (lanes, 1, 1) is learned by prelu and unused by the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

LEAKY_SLOPE = 0.01
PRELU_START = 0.25

aten = torch.ops.aten


@dataclass(frozen=True)
class Activation:
    """`forward(z, slope, out)`; `backward(gradient, z, h, slope, out)` gives dloss/dz from
    dloss/dh, `out` may be `gradient` itself. `learned`: has a slope, whose own derivative is
    `slope_gradient(gradient, z)`, (lanes, 1, 1).
    """

    forward: Callable[[Tensor, Tensor | None, Tensor], object]
    backward: Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor], object]
    slope_gradient: Callable[[Tensor, Tensor], Tensor] | None = None

    @property
    def learned(self) -> bool:
        return self.slope_gradient is not None


def _prelu(z: Tensor, slope: Tensor | None, out: Tensor) -> None:
    assert slope is not None
    torch.clamp(z, min=0, out=out)
    out.addcmul_(z.clamp(max=0), slope)


def _prelu_backward(
    gradient: Tensor, z: Tensor, h: Tensor, slope: Tensor | None, out: Tensor
) -> None:
    assert slope is not None
    positive = aten.threshold_backward(gradient, z, 0)
    negative = gradient - positive
    torch.addcmul(positive, negative, slope, out=out)


def _prelu_slope_gradient(gradient: Tensor, z: Tensor) -> Tensor:
    return (gradient * z.clamp(max=0)).sum((1, 2), keepdim=True)


ACTIVATIONS: dict[str, Activation] = {
    "sigmoid": Activation(
        lambda z, slope, out: torch.sigmoid(z, out=out),
        lambda g, z, h, slope, out: aten.sigmoid_backward.grad_input(g, h, grad_input=out),
    ),
    "tanh": Activation(
        lambda z, slope, out: torch.tanh(z, out=out),
        lambda g, z, h, slope, out: aten.tanh_backward.grad_input(g, h, grad_input=out),
    ),
    "relu": Activation(
        lambda z, slope, out: torch.clamp(z, min=0, out=out),
        lambda g, z, h, slope, out: aten.threshold_backward.grad_input(g, z, 0, grad_input=out),
    ),
    "leaky_relu": Activation(
        lambda z, slope, out: aten.leaky_relu.out(z, LEAKY_SLOPE, out=out),
        lambda g, z, h, slope, out: aten.leaky_relu_backward.grad_input(
            g, z, LEAKY_SLOPE, False, grad_input=out
        ),
    ),
    "prelu": Activation(_prelu, _prelu_backward, _prelu_slope_gradient),
    "swish": Activation(
        lambda z, slope, out: aten.silu.out(z, out=out),
        lambda g, z, h, slope, out: aten.silu_backward.grad_input(g, z, grad_input=out),
    ),
    "gelu": Activation(
        lambda z, slope, out: aten.gelu.out(z, out=out),
        lambda g, z, h, slope, out: aten.gelu_backward.grad_input(g, z, grad_input=out),
    ),
}
