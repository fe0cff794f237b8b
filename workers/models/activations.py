"""Activations with their derivatives, one entry for each name of `catalog.activations`.

All work on (lanes, rows, units) buffers and write into a given one, so that a step allocates
nothing. `slope` is a number for leaky_relu, (lanes, 1, 1) learned numbers for prelu, and unused by
the others. All but sigmoid take 0 to 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

PRELU_START = 0.25

Slope = Tensor | float | None

aten = torch.ops.aten


@dataclass(frozen=True)
class Activation:
    """`forward(z, slope, out)`; `backward(gradient, z, h, slope, out)` gives dloss/dz from
    dloss/dh, `out` may be `gradient` itself. `learned`: has a slope, whose own derivative is
    `slope_gradient(gradient, z)`, (lanes, 1, 1).
    """

    forward: Callable[[Tensor, Slope, Tensor], object]
    backward: Callable[[Tensor, Tensor, Tensor, Slope, Tensor], object]
    slope_gradient: Callable[[Tensor, Tensor], Tensor] | None = None

    @property
    def learned(self) -> bool:
        return self.slope_gradient is not None


def _prelu(z: Tensor, slope: Slope, out: Tensor) -> None:
    assert isinstance(slope, Tensor)
    torch.clamp(z, min=0, out=out)
    out.addcmul_(z.clamp(max=0), slope)


def _prelu_backward(gradient: Tensor, z: Tensor, h: Tensor, slope: Slope, out: Tensor) -> None:
    assert isinstance(slope, Tensor)
    positive = aten.threshold_backward(gradient, z, 0)
    negative = gradient - positive
    torch.addcmul(positive, negative, slope, out=out)


def _prelu_slope_gradient(gradient: Tensor, z: Tensor) -> Tensor:
    return (gradient * z.clamp(max=0)).sum((1, 2), keepdim=True)


def _step_backward(gradient: Tensor, z: Tensor, h: Tensor, slope: Slope, out: Tensor) -> None:
    """A sigmoid's derivative instead of the step's, which is zero (Neftci et al. 2019)."""
    aten.sigmoid_backward.grad_input(gradient, torch.sigmoid(z), grad_input=out)


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
        lambda z, slope, out: aten.leaky_relu.out(z, slope, out=out),
        lambda g, z, h, slope, out: aten.leaky_relu_backward.grad_input(
            g, z, slope, False, grad_input=out
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
    "step": Activation(lambda z, slope, out: torch.gt(z, 0, out=out), _step_backward),
}
