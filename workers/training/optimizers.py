"""Optimizers over lanes: each lane has its own learning rate, momentum and weight decay.

The formulas are those of `torch.optim`, and the results agree with it to rounding. All tensors
are (lanes, numbers); a lane that has no rows left in a step is `idle` and stays as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hpo_service.catalog import NetworkHyperparameters

EPSILON = 1e-8


class Optimizer:
    """Base: what the lanes' settings say, the state by name, weight decay, idle lanes.

    `settings`: `NetworkHyperparameters` of each lane. `rates` (lanes or 1, numbers) multiplies the
    learning rate number by number, for networks whose parts learn at different speeds.
    `state`: name to (lanes, numbers); `steps` (lanes, 1): the steps each lane has taken.
    """

    state_names: tuple[str, ...] = ()

    def __init__(
        self,
        settings: Sequence[NetworkHyperparameters],
        parameters: Tensor,
        rates: Tensor | None = None,
    ) -> None:
        self._settings, self._factors = list(settings), [1.0] * len(settings)
        self.rates = rates
        self.steps = torch.zeros(len(settings), 1, dtype=torch.float64, device=parameters.device)
        self.state = {name: torch.zeros_like(parameters) for name in self.state_names}
        self.scratch = torch.empty_like(parameters)
        self._set_columns()

    def __len__(self) -> int:
        return len(self._settings)

    def scale(self, factors: Sequence[float]) -> None:
        """From now on each lane's learning rate is its setting times its factor."""
        if list(factors) != self._factors:
            self._factors = list(factors)
            self._set_columns()

    def step(self, parameters: Tensor, gradient: Tensor, idle: Sequence[int] = ()) -> None:
        """Move the parameters; `gradient` is used up."""
        touched = [parameters, self.steps, *self.state.values()]
        with torch.inference_mode():
            before = [tensor[list(idle)] for tensor in touched] if idle else []
            if self._decays:
                self.decay(parameters, gradient)
            self.steps += 1
            self.move(parameters, gradient)
            for tensor, rows in zip(touched, before, strict=False):
                tensor[list(idle)] = rows

    def decay(self, parameters: Tensor, gradient: Tensor) -> None:
        """Weight decay as the gradient of an L2 penalty."""
        gradient.addcmul_(parameters, self.weight_decay)

    def move(self, parameters: Tensor, gradient: Tensor) -> None:
        """One step of the rule."""
        raise NotImplementedError

    def subtract(self, parameters: Tensor, direction: Tensor, rate: Tensor) -> None:
        """Take `rate` (lanes, 1) times `direction` off the parameters, faster or slower by number.

        `direction` may be the scratch or the parameters themselves.
        """
        if self.rates is not None:
            direction = torch.mul(direction, self.rates, out=self.scratch)
        parameters.addcmul_(direction, rate, value=-1)

    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with these lanes only."""
        at = list(lanes)
        self._settings = [self._settings[lane] for lane in at]
        self._factors = [self._factors[lane] for lane in at]
        if self.rates is not None and len(self.rates) > 1:
            self.rates = self.rates[at]
        self.steps = self.steps[at]
        self.state = {name: tensor[at] for name, tensor in self.state.items()}
        self.scratch = self.scratch[at]
        self._set_columns()

    def state_of(self, lane: int) -> dict[str, Tensor]:
        """What a lane carries from step to step, name to (numbers,): views, not copies."""
        return {name: tensor[lane] for name, tensor in self.state.items()}

    def steps_of(self, lane: int) -> int:
        """The steps a lane has taken."""
        return int(self.steps[lane])

    def load(self, lane: int, state: Mapping[str, Tensor], steps: int) -> None:
        """Put a lane where another stood when `state_of` and `steps_of` were asked.

        Raises KeyError where `state` is of another rule.
        """
        with torch.inference_mode():
            for name, tensor in self.state.items():
                tensor[lane] = state[name]
            self.steps[lane] = steps

    def column(self, values: Sequence[float]) -> Tensor:
        """One number a lane, (lanes, 1)."""
        return self.scratch.new_tensor(values).unsqueeze(1)

    def _set_columns(self) -> None:
        settings = self._settings
        scaled = zip(settings, self._factors, strict=True)
        self.lr = self.column([s.learning_rate * factor for s, factor in scaled])
        self.momentum = self.column([s.momentum for s in settings])
        self.weight_decay = self.column([s.weight_decay for s in settings])
        self._decays = any(s.weight_decay for s in settings)


class Sgd(Optimizer):
    """Gradient descent with momentum (Polyak 1964), or Nesterov's (Sutskever et al. 2013)."""

    state_names = ("velocity",)

    def move(self, parameters: Tensor, gradient: Tensor) -> None:
        velocity = self.state["velocity"]
        torch.addcmul(gradient, velocity, self.momentum, out=velocity)
        direction = velocity
        if self._looks_ahead:
            # gradient + momentum * velocity in Nesterov's lanes, 0 + 1 * velocity in the others.
            direction = gradient.mul_(self._nesterov).addcmul_(velocity, self._share)
        self.subtract(parameters, direction, self.lr)

    def _set_columns(self) -> None:
        super()._set_columns()
        ahead = [s.nesterov for s in self._settings]
        self._looks_ahead = any(ahead)
        self._nesterov = self.column([float(each) for each in ahead])
        self._share = self.column([s.momentum if s.nesterov else 1.0 for s in self._settings])


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


class AdamW(Adam):
    """Adam with weight decay apart from the gradient (Loshchilov and Hutter 2019)."""

    def decay(self, parameters: Tensor, gradient: Tensor) -> None:
        self.subtract(parameters, parameters, self.lr * self.weight_decay)


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


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan and Singer 2011), with PyTorch's smaller epsilon."""

    state_names = ("square",)
    epsilon = 1e-10

    def move(self, parameters: Tensor, gradient: Tensor) -> None:
        square = self.state["square"].addcmul_(gradient, gradient)
        divisor = torch.sqrt(square, out=self.scratch).add_(self.epsilon)
        self.subtract(parameters, torch.div(gradient, divisor, out=divisor), self.lr)


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": Sgd,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RmsProp,
    "adagrad": Adagrad,
}


class Mixed:
    """Lanes that differ in rule or span: each run of neighbours alike has its own `Optimizer`.

    The rules see views of the parameters, so that nothing is copied; a step costs as many kernels
    as there are runs. Methods as those of `Optimizer`.
    """

    def __init__(
        self,
        settings: Sequence[NetworkHyperparameters],
        parameters: Tensor,
        rates: Tensor | None,
        spans: Sequence[int],
    ) -> None:
        self._rules: list[Optimizer] = []
        self._spans: list[int] = []
        lanes = zip(settings, spans, strict=True)
        start = 0
        for (name, span), run in itertools.groupby(lanes, key=lambda at: (at[0].optimizer, at[1])):
            alike = [each for each, _ in run]
            rows = slice(start, start + len(alike))
            own = rates[rows] if rates is not None and len(rates) > 1 else rates
            own = None if own is None else own[:, :span]
            self._rules.append(OPTIMIZERS[name](alike, parameters[rows, :span], own))
            self._spans.append(span)
            start = rows.stop

    def __len__(self) -> int:
        return sum(map(len, self._rules))

    def scale(self, factors: Sequence[float]) -> None:
        for rule, rows in self._runs():
            rule.scale(factors[rows])

    def step(self, parameters: Tensor, gradient: Tensor, idle: Sequence[int] = ()) -> None:
        for (rule, rows), span in zip(self._runs(), self._spans, strict=True):
            own = [lane - rows.start for lane in idle if rows.start <= lane < rows.stop]
            rule.step(parameters[rows, :span], gradient[rows, :span], own)

    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with these lanes only, in their order now: runs would fall apart in another."""
        assert list(lanes) == sorted(lanes), "lanes are kept in their order"
        kept, spans = [], []
        for (rule, rows), span in zip(self._runs(), self._spans, strict=True):
            own = [lane - rows.start for lane in lanes if rows.start <= lane < rows.stop]
            if own:
                rule.keep(own)
                kept.append(rule)
                spans.append(span)
        self._rules, self._spans = kept, spans

    def state_of(self, lane: int) -> dict[str, Tensor]:
        rule, at = self._find(lane)
        return rule.state_of(at)

    def steps_of(self, lane: int) -> int:
        rule, at = self._find(lane)
        return rule.steps_of(at)

    def load(self, lane: int, state: Mapping[str, Tensor], steps: int) -> None:
        rule, at = self._find(lane)
        rule.load(at, state, steps)

    def _runs(self) -> list[tuple[Optimizer, slice]]:
        """The rules with their lanes."""
        stops = itertools.accumulate(map(len, self._rules))
        ends = zip(self._rules, stops, strict=True)
        return [(rule, slice(stop - len(rule), stop)) for rule, stop in ends]

    def _find(self, lane: int) -> tuple[Optimizer, int]:
        """The rule of a lane, and the lane's place in its run."""
        runs = ((rule, lane - rows.start) for rule, rows in self._runs() if lane < rows.stop)
        return next(runs)


def optimizer(
    settings: Sequence[NetworkHyperparameters],
    parameters: Tensor,
    rates: Tensor | None = None,
    spans: Sequence[int] | None = None,
) -> Optimizer | Mixed:
    """The optimizer of lanes with these settings, one a lane.

    `spans`: how many numbers of its row each lane has, the others being padding that nothing
    moves; unset: all of them.
    """
    whole = parameters.shape[1]
    spans = spans or [whole] * len(settings)
    names = {s.optimizer for s in settings}
    if len(names) == 1 and set(spans) == {whole}:
        return OPTIMIZERS[names.pop()](settings, parameters, rates)
    return Mixed(settings, parameters, rates, spans)
