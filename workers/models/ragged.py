"""Rows of unlike length, (lanes, steps, rows, width): turning them around, reading them out."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


class Ragged:
    """Where the rows of a batch end; `lengths` (lanes, rows) in steps, taken to be at least 1.

    All steps after the longest row's end are left out. A backward direction has each row turned
    around at its own end, so in either direction the real steps stand in front. Directions follow
    each other within a lane: (lanes * directions, ...).
    """

    def __init__(self, lengths: Tensor) -> None:
        self._lengths = lengths.clamp(min=1)
        least, most = torch.aminmax(self._lengths)
        self.steps = int(most)
        self._even = int(least) == self.steps

    def without_padding(self, values: Tensor) -> Tensor:
        """0 after the end, whatever stood there."""
        return values if self._even else torch.where(self._real, values, 0)

    def real(self, directions: int) -> Tensor | None:
        """1 for real steps, (lanes * directions, steps, rows, 1); None where all are."""
        return None if self._even else self._mask(directions).float()

    def turned(self, values: Tensor) -> Tensor:
        """Each row turned around at its own end."""
        if self._even:
            return values.flip(1)
        found: Tensor = _Turn.apply(values, self._turn)  # type: ignore[no-untyped-call]
        return found

    def in_order(self, states: Tensor, directions: int) -> Tensor:
        """States of the directions in one order and side by side, (lanes, steps, rows, all)."""
        if directions == 1:
            return states
        there, back = torch.unflatten(states, 0, (-1, 2)).unbind(1)
        return torch.cat([there, self.turned(back)], 3)

    def readout(self, states: Tensor, directions: int, how: str) -> Tensor:
        """One value of each unit, (lanes, rows, units of all directions): `last` where each
        direction ends, `mean` or `max` over the real steps.
        """
        ways = {"last": self._last, "mean": self._mean, "max": self._max}
        found = ways[how](states, directions)
        if directions == 1:
            return found
        return torch.unflatten(found, 0, (-1, 2)).transpose(1, 2).flatten(2)

    def _last(self, states: Tensor, directions: int) -> Tensor:
        if self._even:
            return states[:, -1]
        ends = self._lengths.repeat_interleave(directions, 0) - 1
        return states.gather(1, ends[:, None, :, None].expand(-1, 1, -1, states.shape[3]))[:, 0]

    def _mean(self, states: Tensor, directions: int) -> Tensor:
        if self._even:
            return states.mean(1)
        lengths = self._lengths.repeat_interleave(directions, 0).unsqueeze(2)
        return torch.where(self._mask(directions), states, 0).sum(1) / lengths

    def _max(self, states: Tensor, directions: int) -> Tensor:
        if not self._even:
            states = states.masked_fill(~self._mask(directions), -torch.inf)
        return states.amax(1)

    @cached_property
    def _real(self) -> Tensor:
        steps = torch.arange(self.steps, device=self._lengths.device)
        return (steps.view(1, -1, 1) < self._lengths.unsqueeze(1)).unsqueeze(3)

    def _mask(self, directions: int) -> Tensor:
        return self._real.repeat_interleave(directions, 0)

    @cached_property
    def _turn(self) -> Tensor:
        """For each place of (lanes, steps, rows) the place it is read from, counted in one row."""
        lanes, rows = self._lengths.shape
        device = self._lengths.device
        steps = torch.arange(self.steps, device=device).view(1, -1, 1)
        lengths = self._lengths.unsqueeze(1)
        source = torch.where(steps < lengths, lengths - 1 - steps, steps)
        lane = torch.arange(lanes, device=device).view(-1, 1, 1)
        return ((lane * self.steps + source) * rows + torch.arange(rows, device=device)).flatten()


class _Turn(Function):
    """A choice of places that is its own inverse, so the way back is the same choice."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, places: Tensor) -> Tensor:
        ctx.places = places
        return _taken(values, places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _taken(gradients[0], ctx.places), None


def _taken(values: Tensor, places: Tensor) -> Tensor:
    return values.flatten(0, 2).index_select(0, places).view(values.shape)
