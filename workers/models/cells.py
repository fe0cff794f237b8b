"""Recurrent layers of many lanes: the pass through time and its derivative, written by hand.

On a CPU the many small operations of a recurrence cost more than the arithmetic, so there are as
few as can be for each step: one batched product, and gates worked on together. The factors by
which a gradient passes a cell are made for all steps at once. Autograd sees a layer as a single
function.

No step is masked: rows stand with their real steps in front (a backward direction is given
them turned around), so what is computed after a row's end is read by nobody and has gradient 0.

Weights are those of `torch.nn.RNN`, `LSTM` and `GRU`, gates in the same order. All tensors here
are (lanes, steps, rows, units).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from workers.models.activations import ACTIVATIONS


class Space:
    """Memory that is used again in every step of training: fresh memory costs page faults."""

    def __init__(self) -> None:
        self._flat: dict[str, Tensor] = {}

    def take(self, name: str, like: Tensor, *shape: int) -> Tensor:
        """A tensor with anything in it; it is overwritten when the name is taken again."""
        size = math.prod(shape)
        if name not in self._flat or len(self._flat[name]) < size:
            self._flat[name] = like.new_empty(size)
        return self._flat[name][:size].view(shape)


class Pass:
    """One pass of a layer through time, and its way back.

    `states` (lanes, steps + 1, rows, inputs + 1 + units) holds side by side what a step reads: its
    inputs, a one for the bias, the units' state before it. `real` (lanes, steps, rows, 1) is 0
    after a row's end, or None where all rows have all steps.
    """

    def __init__(self, space: Space, activation: str, real: Tensor | None) -> None:
        self._space, self._real = space, real
        self._activation = ACTIVATIONS[activation]

    def forward(self, inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """States after each step, (lanes, steps, rows, units)."""
        lanes, steps, rows, width = inputs.shape
        self.recurrent, self.width = weights[1], width
        self.units = self.recurrent.shape[2]
        states = self._take("states", inputs, lanes, steps + 1, rows, width + 1 + self.units)
        self.before = states[:, :-1]
        self.before[..., :width] = inputs
        self.before[..., width] = 1
        self.hidden = states[..., width + 1 :]
        self.hidden[:, 0] = 0
        self.states = states
        self._forward(weights)
        return self.hidden[:, 1:]

    def backward(self, gradient: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of the weights; `gradient` is that of the states."""
        raise NotImplementedError

    def inputs_gradient(self, weights: Sequence[Tensor]) -> Tensor:
        """Gradient of the inputs, after `backward`."""
        found = torch.bmm(self._dz_of_inputs().flatten(1, 2), self._ordered(weights[0]))
        return found.view(*self.before.shape[:3], self.width)

    # --- what a cell gives ------------------------------------------------------------------

    def _forward(self, weights: Sequence[Tensor]) -> None:
        raise NotImplementedError

    def _dz_of_inputs(self) -> Tensor:
        """Gradient of what the inputs' weights give."""
        return self.dz

    def _ordered(self, weights: Tensor) -> Tensor:
        """Weights (lanes, gates * units, ...) in the order of the gates in `_dz_of_inputs`."""
        return weights

    # --- for cells --------------------------------------------------------------------------

    def _take(self, name: str, like: Tensor, *shape: int) -> Tensor:
        return self._space.take(name, like, *shape)

    def _start(self, gates: int, gradient: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Make room for `dz`; the gradient step by step, and that of the last step to go on."""
        lanes, steps, rows, units = gradient.shape
        self.dz = self._take("dz", gradient, lanes, steps, rows, gates * units)
        last = self._take("dh", gradient, lanes, rows, units)
        by_step = gradient.unbind(1)
        return by_step, last.copy_(by_step[-1])

    def _joint(self, weights: Sequence[Tensor]) -> Tensor:
        """Weights of inputs, bias and states side by side, (lanes, inputs + 1 + units, gates)."""
        inputs, recurrent, bias = map(self._ordered, weights)
        return torch.cat([inputs, bias.unsqueeze(2), recurrent], 2).transpose(1, 2)

    def _joint_gradient(self) -> Tensor:
        return torch.bmm(self.dz.flatten(1, 2).transpose(1, 2), self.before.flatten(1, 2))

    def _apart(self, joint: Tensor) -> list[Tensor]:
        width = self.width
        return [joint[..., :width], joint[..., width + 1 :], joint[..., width]]


class Elman(Pass):
    """The state is an activation of inputs and state (Elman 1990)."""

    def _forward(self, weights: Sequence[Tensor]) -> None:
        joint, like = self._joint(weights), self.states
        lanes, _, rows, _ = like.shape
        z = self._take("z", like, lanes, rows, self.units)
        after = self.hidden.unbind(1)[1:]
        # Relu may grow without bound after a row's end, and infinity has no gradient 0.
        real = self._real.unbind(1) if self._real is not None else None
        for step, before in enumerate(self.before.unbind(1)):
            torch.bmm(before, joint, out=z)
            self._activation.forward(z, None, after[step])
            if real is not None:
                after[step].mul_(real[step])

    def backward(self, gradient: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
        dy, dh = self._start(1, gradient)
        dz, after = self.dz.unbind(1), self.hidden.unbind(1)[1:]
        for step in reversed(range(len(dz))):
            # Of tanh and relu the result is enough, so it stands for the argument too.
            self._activation.backward(dh, after[step], after[step], None, dz[step])
            if step:
                torch.baddbmm(dy[step - 1], dz[step], self.recurrent, out=dh)
        return self._apart(self._joint_gradient())


class Lstm(Pass):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) with forget gates (Gers et al.
    2000).

    Inside, the output gate comes first and the candidate last: so the three sigmoids lie together,
    and so do the three gates whose gradient comes by way of the memory.
    """

    def _ordered(self, weights: Tensor) -> Tensor:
        return weights.roll(self.units, 1)

    def _forward(self, weights: Sequence[Tensor]) -> None:
        joint, units = self._joint(weights), self.units
        lanes, steps, rows, _ = self.before.shape
        # Time comes first where products are written: they go faster into one piece of memory.
        self.z = self._take("z", joint, steps, lanes, rows, 4 * units)
        self.memory = self._take("memory", joint, steps + 1, lanes, rows, units)
        self.shown = self._take("shown", joint, steps, lanes, rows, units)
        self.memory[0] = 0
        z, memory, shown = self.z.unbind(0), self.memory.unbind(0), self.shown.unbind(0)
        gates = self.z[..., : 3 * units].unbind(0)
        out, new, kept, candidate = (each.unbind(0) for each in torch.split(self.z, units, 3))
        after = self.hidden.unbind(1)[1:]
        for step, before in enumerate(self.before.unbind(1)):
            torch.bmm(before, joint, out=z[step])
            gates[step].sigmoid_()
            candidate[step].tanh_()
            now = torch.mul(kept[step], memory[step], out=memory[step + 1])
            torch.tanh(now.addcmul_(new[step], candidate[step]), out=shown[step])
            torch.mul(out[step], shown[step], out=after[step])

    def backward(self, gradient: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
        recurrent, units = self._ordered(self.recurrent), self.units
        (dy, dh), factors = self._start(4, gradient), self._factors()
        dm = self._take("dm", gradient, *dh.shape).zero_()
        dz, d_out = self.dz.unbind(1), self.dz[..., :units].unbind(1)
        d_rest = torch.unflatten(self.dz[..., units:], 3, (3, units)).unbind(1)
        by_state = factors[..., :units].unbind(0)
        by_memory = torch.unflatten(factors[..., units:], 3, (3, units)).unbind(0)
        to_memory = self.shown.unbind(0)
        kept = self.z[..., 2 * units : 3 * units].unbind(0)
        for step in reversed(range(len(dz))):
            dm.addcmul_(dh, to_memory[step])
            torch.mul(dh, by_state[step], out=d_out[step])
            torch.mul(dm.unsqueeze(2), by_memory[step], out=d_rest[step])
            if step:
                dm.mul_(kept[step])
                torch.baddbmm(dy[step - 1], dz[step], recurrent, out=dh)
        # The gates go back to the order of the weights.
        return self._apart(self._joint_gradient().roll(-units, 1))

    def _factors(self) -> Tensor:
        """Derivatives of the gates' arguments: of the output gate by the state, of the others by
        the memory; `shown` becomes that of the memory by the state.
        """
        units = self.units
        found = self._take("factors", self.z, *self.z.shape)
        out, new, kept, candidate = torch.split(found, units, 3)
        gates, values = self.z[..., : 3 * units], torch.split(self.z, units, 3)
        torch.addcmul(gates, gates, gates, value=-1, out=found[..., : 3 * units])
        out.mul_(self.shown)
        new.mul_(values[3])
        kept.mul_(self.memory[:-1])
        torch.mul(values[1], values[3], out=candidate).mul_(values[3]).neg_().add_(values[1])
        self.shown.square_().neg_().add_(1).mul_(values[0])
        return found


class Gru(Pass):
    """The gated recurrent unit (Cho et al. 2014) in PyTorch's form: the reset gate acts on what
    the candidate's recurrent weights give.

    `dz` holds four parts: of the candidate's inputs, reset, update, of the candidate's states. The
    inputs' weights meet the first three, the recurrent ones the last three.
    """

    def _ordered(self, weights: Tensor) -> Tensor:
        return weights.roll(self.units, 1)

    def _dz_of_inputs(self) -> Tensor:
        return self.dz[..., : 3 * self.units]

    def _forward(self, weights: Sequence[Tensor]) -> None:
        of_inputs, recurrent, bias, recurrent_bias = weights
        units, width = self.units, self.width
        lanes, steps, rows, _ = self.before.shape
        joint = torch.cat([of_inputs, bias.unsqueeze(2)], 2).transpose(1, 2)
        # The ones lie between inputs and states, and serve both.
        self.z = self._take("z", joint, lanes, steps, rows, 3 * units)
        read = self.before[..., : width + 1].flatten(1, 2)
        torch.bmm(read, joint, out=self.z.view(lanes, steps * rows, 3 * units))
        joint = torch.cat([recurrent_bias.unsqueeze(2), recurrent], 2).transpose(1, 2)
        # Time comes first where products are written: they go faster into one piece of memory.
        self.added = self._take("added", joint, steps, lanes, rows, 3 * units)
        added, added_gates = self.added.unbind(0), self.added[..., : 2 * units].unbind(0)
        added_candidate = self.added[..., 2 * units :].unbind(0)
        gates = self.z[..., : 2 * units].unbind(1)
        reset, update, candidate = (each.unbind(1) for each in torch.split(self.z, units, 3))
        hidden = self.hidden.unbind(1)
        for step, before in enumerate(self.before[..., width:].unbind(1)):
            torch.bmm(before, joint, out=added[step])
            gates[step].add_(added_gates[step]).sigmoid_()
            candidate[step].addcmul_(reset[step], added_candidate[step]).tanh_()
            torch.lerp(candidate[step], hidden[step], update[step], out=hidden[step + 1])

    def backward(self, gradient: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
        units = self.units
        (dy, dh), factors = self._start(4, gradient), self._factors()
        other = self._take("other", gradient, *dh.shape)
        dz = torch.unflatten(self.dz, 3, (4, units)).unbind(1)
        of_states = self.dz[..., units:].unbind(1)
        by_state = torch.unflatten(factors, 3, (4, units)).unbind(1)
        update = self.z[..., units : 2 * units].unbind(1)
        for step in reversed(range(len(dz))):
            torch.mul(dh.unsqueeze(2), by_state[step], out=dz[step])
            if step:
                torch.addcmul(dy[step - 1], dh, update[step], out=other)
                dh, other = other.baddbmm_(of_states[step], self.recurrent), dh
        return self._gradients()

    def _factors(self) -> Tensor:
        """Derivatives of the four parts of `dz` by the state."""
        units = self.units
        lanes, steps, rows, _ = self.z.shape
        found = self._take("factors", self.z, lanes, steps, rows, 4 * units)
        by_inputs, by_reset, by_update, by_states = torch.split(found, units, 3)
        gates = self.z[..., : 2 * units]
        reset, update, candidate = torch.split(self.z, units, 3)
        torch.mul(candidate, candidate, out=by_inputs).neg_().add_(1)
        by_inputs.addcmul_(by_inputs, update, value=-1)
        torch.mul(by_inputs, reset, out=by_states)
        torch.addcmul(gates, gates, gates, value=-1, out=found[..., units : 3 * units])
        by_reset.mul_(by_inputs).mul_(self.added[..., 2 * units :].transpose(0, 1))
        by_update.mul_(self.hidden[:, :-1] - candidate)
        return found

    def _gradients(self) -> list[Tensor]:
        units, width = self.units, self.width
        dz, before = self.dz.flatten(1, 2).transpose(1, 2), self.before.flatten(1, 2)
        found = torch.bmm(dz[:, : 3 * units], before[..., : width + 1]).roll(-units, 1)
        recurrent = torch.bmm(dz[:, units:], before[..., width:])
        return [found[..., :-1], recurrent[..., 1:], found[..., -1], recurrent[..., 0]]


CELLS: dict[str, type[Pass]] = {"elman": Elman, "lstm": Lstm, "gru": Gru}
GATES = {"elman": 1, "lstm": 4, "gru": 3}


class _Recurrence(Function):
    """A `Pass` for autograd."""

    @staticmethod
    def forward(ctx: Any, made: Pass, inputs: Tensor, *weights: Tensor) -> Tensor:
        ctx.made = made
        ctx.save_for_backward(*weights)
        return made.forward(inputs, weights)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        made, weights = ctx.made, ctx.saved_tensors
        found = made.backward(gradients[0], weights)
        inputs = made.inputs_gradient(weights) if ctx.needs_input_grad[1] else None
        return None, inputs, *found


def recur(made: Pass, inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """States (lanes, steps, rows, units) after each step of inputs (lanes, steps, rows, width).

    `weights`: of inputs (lanes, gates * units, width), of states (lanes, gates * units, units),
    bias (lanes, gates * units), and of gru a recurrent bias of the same shape. The result is
    overwritten by the next pass with the same `Space`.
    """
    found: Tensor = _Recurrence.apply(made, inputs, *weights)  # type: ignore[no-untyped-call]
    return found


def fused_lstm(inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """As `recur` with `Lstm`, one lane after another by PyTorch's own kernel."""
    found = []
    for lane, lane_inputs in enumerate(inputs):
        of_inputs, recurrent, bias = (each[lane] for each in weights)
        start = inputs.new_zeros(1, inputs.shape[2], recurrent.shape[1])
        parameters = [of_inputs, recurrent, bias, torch.zeros_like(bias)]
        found.append(
            torch.lstm(lane_inputs, (start, start), parameters, True, 1, 0.0, True, False, False)[0]
        )
    return torch.stack(found)
