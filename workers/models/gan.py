"""Generative adversarial networks (Goodfellow et al. 2014): two MLPs a lane, trained at once.

The generator turns noise into rows laid out like those of the data, the discriminator tells them
from real ones. Both are in a lane's numbers and move in the same step of the optimizer, each by
the gradient of its own loss.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hpo_service.catalog.gan import GanHyperparameters
from workers.models.activations import PRELU_START
from workers.models.autograd import AutogradNetwork, Weights, constant, drawn
from workers.models.base import Arrays, NetworkModel, Shape, Size
from workers.models.dropout import Dropout

GENERATOR, DISCRIMINATOR = "generator", "discriminator"
# Of the relaxed categories, as in CTGAN (Xu et al. 2019).
TEMPERATURE = 0.2
# Noise drawn for one lane at a time: enough to make a call cheap, few enough to stay cached.
DRAWN_AT_ONCE = 2**16
LEAKY_SLOPE = 0.2  # as is usual for discriminators (Radford et al. 2016)

# With derivatives of their derivatives, which the gradient penalty needs.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky_relu": lambda z: functional.leaky_relu(z, LEAKY_SLOPE),
    "swish": functional.silu,
    "gelu": functional.gelu,
}


class Noise:
    """What the rows of a step are made from, (lanes, rows, numbers), drawn a run of steps ahead.

    Standard normal, but for the last `gumbels` numbers, which are standard Gumbel. A lane draws
    whole batches for the steps it takes and for no other, so that its draws are always the same.
    """

    def __init__(self, rngs: Sequence[np.random.Generator], rows: int, normals: int, gumbels: int):
        self._rngs, self._rows, self._normals, self._gumbels = list(rngs), rows, normals, gumbels
        self._run = max(1, DRAWN_AT_ONCE // (rows * (normals + gumbels)))
        self._steps = [0] * len(rngs)

    def start(self, steps: Sequence[int]) -> None:
        """A new epoch, in which each lane takes its own number of steps."""
        self._steps = list(steps)

    def at(self, step: int, rows: int, like: Tensor) -> Tensor:
        """The first `rows` of a step; the steps of an epoch are asked for in turn."""
        at = step % self._run
        if at == 0:
            self._draw(step, like)
        return self._drawn[:, at, :rows]

    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with these lanes only, at the start of an epoch."""
        self._rngs = [self._rngs[lane] for lane in lanes]

    def _draw(self, step: int, like: Tensor) -> None:
        shape = (len(self._rngs), self._run, self._rows, self._normals + self._gumbels)
        found = np.zeros(shape)
        for lane, rng in enumerate(self._rngs):
            steps = min(self._run, self._steps[lane] - step)
            if steps > 0:
                found[lane, :steps] = draw(rng, (steps, self._rows), self._normals, self._gumbels)
        self._drawn = torch.from_numpy(found).to(like)


def draw(
    rng: np.random.Generator, rows: tuple[int, ...], normals: int, gumbels: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Noise (*rows, normals + gumbels)."""
    found = rng.standard_normal((*rows, normals))
    if not gumbels:
        return found
    return np.concatenate([found, rng.gumbel(size=(*rows, gumbels))], axis=-1)


class Gan(AutogradNetwork):
    """Lanes of one pair of shapes; see `base.Network`.

    `predict` gives the discriminator's logit that a row is real, (lanes, rows, 1).
    """

    settings: list[GanHyperparameters]

    def __init__(
        self,
        settings: Sequence[GanHyperparameters],
        rngs: Sequence[np.random.Generator],
        shape: Shape,
    ) -> None:
        first = settings[0]
        self._widths = _widths(first, shape)
        self._activation, self._hinge = first.activation, first.loss == "hinge"
        self._blocks = [block for block in shape.blocks if block[0] < block[1]]
        self._gumbels = sum(stop - start for start, stop in self._blocks)
        self.values = sum(self._widths[DISCRIMINATOR])
        super().__init__(settings, rngs, shape)
        self._rows = max(s.batch_size for s in settings)
        self._noise = Noise(rngs, self._rows, first.noise, self._gumbels)
        rates = [s.dropout for s in settings]
        if any(rates):
            # Real rows have the first half of the masks, generated rows the second.
            hidden = self._widths[DISCRIMINATOR][1:-1]
            self.dropout = Dropout(rates, rngs, hidden, 2 * self._rows, self.parameters)
        self._made_by = sum(w.size for w in self.declared if w.name.startswith(GENERATOR))
        if any(s.average for s in settings):
            self.statistics = {
                "average": self.parameters[:, : self._made_by].clone(),
                "steps": self.parameters.new_zeros(len(settings)),
            }
        self._set_columns()

    # --- base.Network -----------------------------------------------------------------------

    def start_epoch(self, steps: Sequence[int]) -> None:
        super().start_epoch(steps)
        self._noise.start(steps)

    def learn(self, step: int, inputs: Tensor, target: Tensor, weights: Tensor | float) -> Tensor:
        """The generator's loss of each row: rows are made as many as there are real ones."""
        self.step = step
        self._move_average(weights)
        made = self._make(self.weights, self._noise.at(step, inputs.shape[1], inputs))
        if self._penalty is not None:
            inputs = inputs.detach().requires_grad_()
        of_real, of_made = self._judge(inputs, 0), self._judge(made, self._rows)
        told = self._told_apart(of_real, of_made)
        if self._penalty is not None:
            told = told + self._penalty * _squared_slope(of_real, inputs)
        fooled = -of_made if self._hinge else functional.softplus(-of_made)
        self._set_gradient(DISCRIMINATOR, (told * weights).sum())
        self._set_gradient(GENERATOR, (fooled * weights).sum())
        return fooled.detach()

    def keep(self, lanes: Sequence[int]) -> None:
        super().keep(lanes)
        self._noise.keep(lanes)
        self._set_columns()

    def arrays(self, lane: int) -> Arrays:
        """With an average, the generator's weights are that."""
        return self.unpack(self._making(lane), 0)

    def restore(self, arrays: Arrays, lane: int) -> None:
        self.pack(arrays, self.parameters, lane)
        if self.statistics:
            self.statistics["average"][lane] = self.parameters[lane, : self._made_by]

    # --- autograd.AutogradNetwork -----------------------------------------------------------

    def declare(self) -> list[Weights]:
        return [
            weights
            for half, widths in self._widths.items()
            for at, fans in enumerate(itertools.pairwise(widths))
            for weights in self._layer(f"{half}.{at}", *fans, last=at == len(widths) - 2)
        ]

    def forward(self, inputs: Tensor, train: bool) -> Tensor:
        return self._mlp(DISCRIMINATOR, self.weights, inputs)

    # --- generation -------------------------------------------------------------------------

    def generate(self, rows: int, rng: np.random.Generator, lane: int) -> Tensor:
        """Rows of one lane as the data's are laid out, (rows, columns), drawn from `rng` alone."""
        flat = self._making(lane)
        noise = draw(rng, (1, rows), self.settings[lane].noise, self._gumbels)
        with torch.no_grad():
            views = self._views(flat, leaves=False)
            return self._make(views, torch.from_numpy(noise).to(flat))[0]

    def _making(self, lane: int) -> Tensor:
        """A lane's numbers, (1, numbers), of which the generator's are those that make rows."""
        flat = self.parameters[[lane]]
        if self.settings[lane].average:
            flat[:, : self._made_by] = self.statistics["average"][lane]
        return flat

    def _make(self, weights: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        """Rows (lanes, rows, columns): numbers as they come, and one category of each block.

        The derivative of a category is that of its relaxation (straight-through Gumbel-softmax,
        Jang et al. 2017).
        """
        normals = self._widths[GENERATOR][0]
        found, gumbel = self._mlp(GENERATOR, weights, noise[:, :, :normals]), noise[:, :, normals:]
        pieces, at, drawn_at = [], 0, 0
        for start, stop in self._blocks:
            size = stop - start
            logits = found[:, :, start:stop] + gumbel[:, :, drawn_at : drawn_at + size]
            pieces += [found[:, :, at:start], _one_hot(logits)]
            at, drawn_at = stop, drawn_at + size
        return torch.cat([*pieces, found[:, :, at:]], dim=2) if pieces else found

    # --- the two halves ---------------------------------------------------------------------

    def _judge(self, rows: Tensor, masks_from: int) -> Tensor:
        """Logits that rows are real, (lanes, rows); masks from this row on."""
        masks = None
        if self.dropout:
            upto = masks_from + rows.shape[1]
            masks = [mask[:, masks_from:upto] for mask in self._masks()]
        return self._mlp(DISCRIMINATOR, self.weights, rows, masks).squeeze(2)

    def _told_apart(self, of_real: Tensor, of_made: Tensor) -> Tensor:
        """The discriminator's loss of each pair of rows, (lanes, rows)."""
        if self._hinge:
            return torch.relu(1 - of_real) + torch.relu(1 + of_made)
        real = functional.softplus(-of_real)
        if self.smoothing is not None:
            real = torch.lerp(real, functional.softplus(of_real), self.smoothing.unsqueeze(1))
        return real + functional.softplus(of_made)

    def _mlp(
        self,
        half: str,
        weights: Mapping[str, Tensor],
        inputs: Tensor,
        masks: Sequence[Tensor] | None = None,
    ) -> Tensor:
        found, last = inputs, len(self._widths[half]) - 2
        for at in range(last):
            layer = f"{half}.{at}"
            slope = weights.get(f"{layer}.slope")
            found = self._activate(_dense(weights, layer, found), slope)
            if masks:
                found = found * masks[at]
        return _dense(weights, f"{half}.{last}", found)

    def _activate(self, z: Tensor, slope: Tensor | None) -> Tensor:
        if slope is not None:
            return z.clamp(min=0) + slope.unsqueeze(2) * z.clamp(max=0)
        return ACTIVATIONS[self._activation](z)

    def _layer(self, name: str, fan_in: int, fan_out: int, *, last: bool) -> list[Weights]:
        found = [
            drawn(f"{name}.weight", (fan_out, fan_in), fan_in, fan_out),
            constant(f"{name}.bias", (fan_out,)),
        ]
        if self._activation == "prelu" and not last:
            found.append(constant(f"{name}.slope", (1,), PRELU_START))
        return found

    # --- state ------------------------------------------------------------------------------

    def _set_gradient(self, half: str, loss: Tensor) -> None:
        """Of a sum over all lanes by the numbers of one half; those of the other stay."""
        names = [each.name for each in self.declared if each.name.startswith(half)]
        leaves = [self.weights[name] for name in names]
        # The halves share what was computed, so the first one must leave it for the second.
        found = torch.autograd.grad(loss, leaves, retain_graph=half == DISCRIMINATOR)
        for name, gradient in zip(names, found, strict=True):
            self._gradients[name].copy_(gradient)

    def _move_average(self, weights: Tensor | float) -> None:
        """Take in the newest weights; a lane that has no row in this step stays as it is."""
        if not self.statistics:
            return
        with torch.no_grad():
            average, steps = self.statistics["average"], self.statistics["steps"]
            # Young averages forget faster: the first weights are nothing to keep.
            kept = torch.minimum(self._kept, (1 + steps) / (10 + steps))
            share = 1 - kept
            if isinstance(weights, Tensor):
                takes = (weights > 0).any(1).to(share)
                share, steps_taken = share * takes, takes
            else:
                steps_taken = torch.ones_like(steps)
            average.lerp_(self.parameters[:, : self._made_by], share.unsqueeze(1))
            steps += steps_taken

    def _set_columns(self) -> None:
        """What lanes differ in, by lane."""

        def column(values: Sequence[float]) -> Tensor:
            return self.parameters.new_tensor(values)

        self._kept = column([s.average for s in self.settings])
        penalties = [s.gradient_penalty for s in self.settings]
        self._penalty = column(penalties).unsqueeze(1) / 2 if any(penalties) else None
        rates = column([s.discriminator_rate for s in self.settings]).unsqueeze(1)
        self.rates = torch.ones_like(self.parameters)
        self.rates[:, self._made_by :] = rates


def _widths(settings: GanHyperparameters, shape: Shape) -> dict[str, list[int]]:
    """Inputs, hidden layers and outputs of both halves."""
    made = [settings.generator_units] * settings.generator_layers
    judged = [settings.discriminator_units] * settings.discriminator_layers
    return {
        GENERATOR: [settings.noise, *made, shape.inputs],
        DISCRIMINATOR: [shape.inputs, *judged, 1],
    }


def _dense(weights: Mapping[str, Tensor], layer: str, inputs: Tensor) -> Tensor:
    """(lanes, rows, in) to (lanes, rows, out)."""
    bias = weights[f"{layer}.bias"].unsqueeze(1)
    return torch.baddbmm(bias, inputs, weights[f"{layer}.weight"].transpose(1, 2))


def _one_hot(logits: Tensor) -> Tensor:
    """The largest as exactly one-hot, with the derivative of a softmax."""
    chosen = functional.one_hot(logits.argmax(2), logits.shape[2]).to(logits)
    if not logits.requires_grad:
        return chosen
    soft = torch.softmax(logits / TEMPERATURE, dim=2)
    return chosen + (soft - soft.detach())


def _squared_slope(logits: Tensor, rows: Tensor) -> Tensor:
    """Squared length of each row's derivative, (lanes, rows)."""
    (slope,) = torch.autograd.grad(logits.sum(), rows, create_graph=True)
    return slope.square().sum(2)


def shape(settings: GanHyperparameters) -> Hashable:
    """What two settings must share to be lanes of one pass."""
    return (
        (settings.generator_layers, settings.generator_units),
        (settings.discriminator_layers, settings.discriminator_units),
        (settings.noise, settings.activation, settings.loss),
        settings.gradient_penalty > 0,
    )


def size(settings: GanHyperparameters, shape: Shape) -> Size:
    """What a lane needs."""
    made, judged = _widths(settings, shape).values()
    numbers = sum((i + 1) * o for widths in (made, judged) for i, o in itertools.pairwise(widths))
    # The discriminator sees twice as many rows, and its slope is kept for its derivative.
    return Size(numbers, 4 * sum(made) + 12 * sum(judged))


MODEL = NetworkModel(
    shape=shape, build=Gan, size=size, layout="structured", opposed=(DISCRIMINATOR,)
)
