"""Optimizers over lanes: each lane has its own learning rate, momentum and weight decay.

The formulas are those of `torch.optim`, and the results agree with it to rounding. All tensors
are (lanes, numbers); a lane that has no rows left in a step is `idle` and stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hpo_service.catalog import NetworkHyperparameters

EPSILON = 1e-8


class Optimizer:
    """Base: what the lanes' settings say, the state by name, weight decay, idle lanes.

    `rates` (lanes, numbers) multiplies the learning rate number by number, for networks whose
    parts learn at different speeds.
    """

    state_names: tuple[str, ...] = ()

    def __init__(
        self,
        settings: Sequence[NetworkHyperparameters],
        parameters: Tensor,
        rates: Tensor | None = None,
    ) -> None:
        def column(values: list[float]) -> Tensor:
            return parameters.new_tensor(values).unsqueeze(1)

        self.rates = rates
        self.lr = column([s.learning_rate for s in settings])
        self.momentum = column([s.momentum for s in settings])
        self.weight_decay = column([s.weight_decay for s in settings])
        self.steps = torch.zeros(len(settings), 1, dtype=torch.float64, device=parameters.device)
        self.state = {name: torch.zeros_like(parameters) for name in self.state_names}
        self.scratch = torch.empty_like(parameters)
        self._decays = any(s.weight_decay for s in settings)

    def step(self, parameters: Tensor, gradient: Tensor, idle: Sequence[int] = ()) -> None:
        """Move the parameters; `gradient` is used up."""
        touched = [parameters, self.steps, *self.state.values()]
        with torch.inference_mode():
            before = [tensor[list(idle)] for tensor in touched] if idle else []
            if self._decays:
                gradient.addcmul_(parameters, self.weight_decay)
            self.steps += 1
            self.move(parameters, gradient)
            for tensor, rows in zip(touched, before, strict=False):
                tensor[list(idle)] = rows

    def move(self, parameters: Tensor, gradient: Tensor) -> None:
        """One step of the rule."""
        raise NotImplementedError

    def subtract(self, parameters: Tensor, direction: Tensor, rate: Tensor) -> None:
        """Take `rate` (lanes, 1) times `direction` off, faster or slower by number."""
        if self.rates is not None:
            direction = torch.mul(direction, self.rates, out=self.scratch)
        parameters.addcmul_(direction, rate, value=-1)

    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with these lanes only."""
        at = list(lanes)
        self.lr, self.momentum = self.lr[at], self.momentum[at]
        self.weight_decay, self.steps = self.weight_decay[at], self.steps[at]
        self.state = {name: tensor[at] for name, tensor in self.state.items()}
        self.scratch = self.scratch[at]
        if self.rates is not None:
            self.rates = self.rates[at]


class Sgd(Optimizer):
    """Gradient descent with momentum (Polyak 1964)."""

    state_names = ("velocity",)

    def move(self, parameters: Tensor, gradient: Tensor) -> None:
        velocity = self.state["velocity"]
        torch.addcmul(gradient, velocity, self.momentum, out=velocity)
        self.subtract(parameters, velocity, self.lr)


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015)."""

    state_names = ("mean", "square")
    beta1, beta2 = 0.9, 0.999

    def move(self, parameters: Tensor, gradient: Tensor) -> None:
        mean, square = self.state["mean"], self.state["square"]
        mean.lerp_(gradient, 1 - self.beta1)
        square.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
        # Both bias corrections as one factor of the step and one of epsilon, a number a lane.
        root = (1 - self.beta2**self.steps).sqrt_()
        rate = self.lr * (root / (1 - self.beta1**self.steps)).to(self.lr.dtype)
        divisor = torch.sqrt(square, out=self.scratch).add_((EPSILON * root).to(self.lr.dtype))
        self.subtract(parameters, torch.div(mean, divisor, out=divisor), rate)


class RmsProp(Optimizer):
    """RMSprop with momentum (Tieleman and Hinton 2012)."""

    state_names = ("square", "velocity")
    alpha = 0.99

    def move(self, parameters: Tensor, gradient: Tensor) -> None:
        square, velocity = self.state["square"], self.state["velocity"]
        square.mul_(self.alpha).addcmul_(gradient, gradient, value=1 - self.alpha)
        divisor = torch.sqrt(square, out=self.scratch).add_(EPSILON)
        scaled = torch.div(gradient, divisor, out=divisor)
        torch.addcmul(scaled, velocity, self.momentum, out=velocity)
        self.subtract(parameters, velocity, self.lr)


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": Sgd, "adam": Adam, "rmsprop": RmsProp}
