"""The layers of a stack of perceptrons at work: forward and backward pass by hand.

Everything a step with a number of rows writes to is made once and used in every step, because
for networks of this size allocation and bookkeeping cost more than the products. A test holds
the backward pass against autograd.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from workers.models.activations import ACTIVATIONS, Slope
from workers.models.mlp_stacks import Entry, Stack
from workers.models.normalizations import AXES, Normalization, Running, normalized

# A layer's running statistics by layer; empty where nothing is tracked.
Tracked = Mapping[int, Running]


class Numbers:
    """A stack's numbers in a (lanes, numbers) tensor, by layer."""

    def __init__(self, flat: Tensor, stack: Stack) -> None:
        self._flat, self.stack = flat[stack.lanes], stack
        self._entries = _by_name(stack.entries(len(stack.widths)))

    def hidden(self, at: int, kind: str) -> Tensor | None:
        """`kind` of a hidden layer, (lanes that have it, ...); None where it has none."""
        entry = self._entries.get(f"layers.{at}.{kind}")
        return None if entry is None else entry.of(self._flat[: self.stack.count(at)])

    def last(self, depth: int, lanes: slice) -> tuple[Tensor, Tensor | None]:
        """Weights and biases of the last layer of the lanes, all of this depth."""
        entries, flat = _by_name(self.stack.entries(depth)), self._flat[lanes]
        bias = entries.get(f"layers.{depth}.bias")
        weight = entries[f"layers.{depth}.weight"].of(flat)
        return weight, None if bias is None else bias.of(flat)

    def embedding(self, block: int) -> Tensor:
        return self._entries[f"embeddings.{block}.weight"].of(self._flat)


class StackAtWork:
    """A stack for steps of so many rows."""

    def __init__(
        self, stack: Stack, numbers: Numbers, gradients: Numbers, rows: int, dropouts: list[bool]
    ) -> None:
        """`dropouts`: whether inputs and hidden units are left out."""
        lanes, like = len(stack.designs), numbers.embedding(0) if stack.ends.blocks else None
        like = numbers.last(*stack.depths[0])[0] if like is None else like
        self._input_dropout, self._dropout = dropouts
        self._dropped = like.new_empty(lanes, rows, stack.ends.inputs)
        self._embeddings = Embeddings(numbers, gradients, rows) if stack.ends.blocks else None
        self._hidden = [
            Hidden(at, numbers, gradients, rows)
            for at in range(len(stack.widths))
            if stack.count(at)
        ]
        self._last = [Last(depth, lanes_of, numbers, gradients) for depth, lanes_of in stack.depths]

    def forward(
        self,
        inputs: Tensor,
        masks: Sequence[Tensor],
        real: Tensor | None,
        tracked: Tracked,
        outputs: Tensor,
    ) -> None:
        """Fill `outputs` (lanes, outputs, rows): they lie transposed, as the weights do."""
        self._masks = list(masks[1 if self._input_dropout else 0 :])
        if self._input_dropout:
            inputs = torch.mul(inputs, masks[0], out=self._dropped)
        below = self._embeddings.forward(inputs) if self._embeddings else inputs
        values = [below]
        for at, layer in enumerate(self._hidden):
            mask = self._masks[at] if self._dropout else None
            below = layer.forward(_first(below, layer.lanes), mask, real, tracked.get(at))
            values.append(below)
        for last in self._last:
            last.forward(values[last.depth], outputs)

    def backward(self, gradient: Tensor) -> None:
        """From the loss's gradient by the outputs, (lanes, outputs, rows), to all numbers'."""
        for last in self._last:
            last.backward(gradient, self._hidden[last.depth - 1].dh if last.depth else None)
        for at in reversed(range(len(self._hidden))):
            layer = self._hidden[at]
            into = self._hidden[at - 1].dh if at else None
            if self._embeddings and not at:
                into = self._embeddings.gradient
            layer.backward(
                self._masks[at] if self._dropout else None,
                None if into is None else _first(into, layer.lanes),
            )
        if self._embeddings:
            self._embeddings.backward()


class Hidden:
    """One hidden layer of the lanes that have it."""

    def __init__(self, at: int, numbers: Numbers, gradients: Numbers, rows: int) -> None:
        stack, self.lanes = numbers.stack, numbers.stack.count(at)
        weight, found = numbers.hidden(at, "weight"), gradients.hidden(at, "weight")
        assert weight is not None
        assert found is not None
        self._weight, self._found = weight, found
        self._bias, self._found_bias = numbers.hidden(at, "bias"), gradients.hidden(at, "bias")
        self._product = torch.empty_like(weight, memory_format=torch.contiguous_format)
        self._z, self._h, self._dropped, self.dh = (
            weight.new_empty(self.lanes, rows, weight.shape[2]) for _ in range(4)
        )
        slope, found_slope = numbers.hidden(at, "slope"), gradients.hidden(at, "slope")
        self._applied = [
            Applied(stack, at, lanes, (self._z, self._h, self.dh), (slope, found_slope))
            for _, lanes in stack.activations(at)
        ]
        self._normal: Normalization | None = None
        scale, shift = numbers.hidden(at, "scale"), numbers.hidden(at, "shift")
        found_scale, found_shift = gradients.hidden(at, "scale"), gradients.hidden(at, "shift")
        if scale is not None and shift is not None:
            assert found_scale is not None
            assert found_shift is not None
            self._normal = Normalization(AXES[stack.designs[0].normalization], self._z)
            self._scale, self._shift = scale, shift
            self._found_normal = (found_scale, found_shift)

    def forward(
        self, below: Tensor, mask: Tensor | None, real: Tensor | None, running: Running | None
    ) -> Tensor:
        """What the layer above gets, (lanes, rows, units)."""
        self._below = below
        _affine(self._bias, below, self._weight, self._z)
        if self._normal:
            self._normal.forward(self._z, self._scale, self._shift, real)
            if running:
                self._normal.track(running)
        for applied in self._applied:
            applied.forward()
        return self._h if mask is None else torch.mul(self._h, mask, out=self._dropped)

    def backward(self, mask: Tensor | None, into: Tensor | None) -> None:
        """From `dh` to the gradients of the layer's numbers, and `into` to that of its inputs."""
        dh = self.dh
        if mask is not None:
            dh.mul_(mask)
        for applied in self._applied:
            applied.backward()
        if self._normal:
            self._normal.backward(dh, self._scale, self._found_normal)
        # Products go faster into a contiguous buffer than into the rows of `gradient`.
        self._found.copy_(torch.bmm(self._below.transpose(1, 2), dh, out=self._product))
        if self._found_bias is not None:
            torch.sum(dh, dim=1, keepdim=True, out=self._found_bias)
        if into is not None:
            torch.bmm(dh, self._weight.transpose(1, 2), out=into)


class Applied:
    """The activation of a run of lanes in one layer."""

    def __init__(
        self,
        stack: Stack,
        at: int,
        lanes: slice,
        values: tuple[Tensor, Tensor, Tensor],
        slopes: tuple[Tensor | None, Tensor | None],
    ) -> None:
        name, number = stack.designs[lanes.start].applied
        self._activation = ACTIVATIONS[name]
        self._z, self._h, self._dh = (each[lanes] for each in values)
        slope, found = (None if each is None else each[lanes] for each in slopes)
        self._slope: Slope = slope if self._activation.learned else number
        self._found_slope = found
        self._real: Tensor | None = None
        widths = [design.widths[at] for design in stack.designs[lanes]]
        if name == "sigmoid" and min(widths) < self._z.shape[2]:
            units = torch.arange(self._z.shape[2], device=self._z.device)
            real = units < torch.tensor(widths, device=units.device).view(-1, 1, 1)
            self._real = real.to(self._z.dtype)

    def forward(self) -> None:
        self._activation.forward(self._z, self._slope, self._h)
        if self._real is not None:
            # Padding must give 0, or the weights behind it would learn.
            self._h.mul_(self._real)

    def backward(self) -> None:
        activation = self._activation
        if activation.slope_gradient:
            assert self._found_slope is not None
            self._found_slope.copy_(activation.slope_gradient(self._dh, self._z))
        activation.backward(self._dh, self._z, self._h, self._slope, self._dh)


class Last:
    """The last layer of the lanes of one depth."""

    def __init__(self, depth: int, lanes: slice, numbers: Numbers, gradients: Numbers) -> None:
        self.depth = depth
        self._local = lanes
        start = numbers.stack.start
        self._lanes = slice(start + lanes.start, start + lanes.stop)
        self._weight, self._bias = numbers.last(depth, lanes)
        self._found, self._found_bias = gradients.last(depth, lanes)
        self._product = torch.empty_like(self._weight, memory_format=torch.contiguous_format)

    def forward(self, values: Tensor, outputs: Tensor) -> None:
        """`values` of the stack's lanes, `outputs` of all lanes."""
        self._below = _part(values, self._local)
        _affine(self._bias, self._weight, self._below.transpose(1, 2), _part(outputs, self._lanes))

    def backward(self, gradient: Tensor, into: Tensor | None) -> None:
        gradient = _part(gradient, self._lanes)
        self._found.copy_(torch.bmm(gradient, self._below, out=self._product))
        if self._found_bias is not None:
            torch.sum(gradient, dim=2, keepdim=True, out=self._found_bias)
        if into is not None:
            torch.bmm(gradient.transpose(1, 2), self._weight, out=_part(into, self._local))


class Embeddings:
    """Learned numbers instead of the one-hot columns of categories (Guo and Berkhahn 2016).

    One-hot columns times a (categories, numbers) matrix pick one of its rows.
    """

    def __init__(self, numbers: Numbers, gradients: Numbers, rows: int) -> None:
        stack = numbers.stack
        blocks = range(len(stack.ends.blocks))
        self._weights = [numbers.embedding(block) for block in blocks]
        self._found = [gradients.embedding(block) for block in blocks]
        size = (len(stack.designs), rows, stack.ends.first)
        self._embedded = self._weights[0].new_empty(size)
        self.gradient = torch.empty_like(self._embedded)
        self._blocks, self._plain = _columns(stack)

    def forward(self, inputs: Tensor) -> Tensor:
        self._inputs = inputs
        return embedded(inputs, self._weights, self._blocks, self._plain, self._embedded)

    def backward(self) -> None:
        for (columns, at), found in zip(self._blocks, self._found, strict=True):
            one_hot = self._inputs[:, :, columns].transpose(1, 2)
            found.copy_(torch.bmm(one_hot, self.gradient[:, :, at]))


def predict(stack: Stack, numbers: Numbers, inputs: Tensor, tracked: Tracked) -> list[Tensor]:
    """Outputs (lanes of one depth, rows, outputs), for one depth of the stack after the other."""
    below = inputs
    if stack.ends.blocks:
        weights = [numbers.embedding(block) for block in range(len(stack.ends.blocks))]
        into = inputs.new_empty(*inputs.shape[:2], stack.ends.first)
        below = embedded(inputs, weights, *_columns(stack), into)
    values = [below]
    for at in range(len(stack.widths)):
        if stack.count(at):
            values.append(_predicted(numbers, at, _first(values[-1], stack.count(at)), tracked))
    found = []
    for depth, lanes in stack.depths:
        weight, bias = numbers.last(depth, lanes)
        below = values[depth][lanes].transpose(1, 2)
        outputs = weight.new_empty(len(weight), weight.shape[1], below.shape[2])
        found.append(_affine(bias, weight, below, outputs).transpose(1, 2))
    return found


def _predicted(numbers: Numbers, at: int, below: Tensor, tracked: Tracked) -> Tensor:
    stack, weight = numbers.stack, numbers.hidden(at, "weight")
    assert weight is not None
    z = weight.new_empty(len(below), below.shape[1], weight.shape[2])
    _affine(numbers.hidden(at, "bias"), below, weight, z)
    scale, shift = numbers.hidden(at, "scale"), numbers.hidden(at, "shift")
    if scale is not None and shift is not None:
        axis = AXES[stack.designs[0].normalization]
        z = normalized(axis, z, scale, shift, tracked.get(at))
    h, slopes = torch.empty_like(z), numbers.hidden(at, "slope")
    for (name, number), lanes in stack.activations(at):
        learned = slopes[lanes] if slopes is not None and ACTIVATIONS[name].learned else None
        slope = number if learned is None else learned
        ACTIVATIONS[name].forward(z[lanes], slope, h[lanes])
    return h


Block = tuple[slice, slice]


def embedded(
    inputs: Tensor,
    weights: Sequence[Tensor],
    blocks: Sequence[Block],
    plain: Sequence[Block],
    out: Tensor,
) -> Tensor:
    """Rows with embeddings in place of one-hot blocks; other columns stay as they are."""
    for columns, at in plain:
        out[:, :, at] = inputs[:, :, columns]
    for (columns, at), weight in zip(blocks, weights, strict=True):
        out[:, :, at] = torch.bmm(inputs[:, :, columns], weight)
    return out


def _columns(stack: Stack) -> tuple[list[Block], list[Block]]:
    """Columns of inputs and where they go: one-hot blocks, then all that lies between them."""
    blocks: list[Block] = []
    plain: list[Block] = []
    done = to = 0
    for start, stop in [*stack.ends.blocks, (stack.ends.inputs, stack.ends.inputs)]:
        if start > done:
            plain.append((slice(done, start), slice(to, to + start - done)))
            to += start - done
        if stop > start:
            blocks.append((slice(start, stop), slice(to, to + stack.ends.embedding)))
            to += stack.ends.embedding
        done = stop
    return blocks, plain


def _affine(bias: Tensor | None, one: Tensor, two: Tensor, out: Tensor) -> Tensor:
    if bias is None:
        return torch.bmm(one, two, out=out)
    return torch.baddbmm(bias, one, two, out=out)


def _by_name(entries: Sequence[Entry]) -> dict[str, Entry]:
    return {entry.name: entry for entry in entries}


def _first(tensor: Tensor, lanes: int) -> Tensor:
    """The first lanes; slicing costs as much as a small product."""
    return tensor if len(tensor) == lanes else tensor[:lanes]


def _part(tensor: Tensor, lanes: slice) -> Tensor:
    return tensor if len(tensor) == lanes.stop - lanes.start else tensor[lanes]
