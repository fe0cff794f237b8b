"""Dropout masks for many lanes, cheap and the same whatever a lane is packed with.

Each lane's own generator draws raw 16-bit integers for a run of steps at once; a unit stays where
its integer is not below the lane's threshold, and what stays is scaled up so that the expected
value is unchanged (Srivastava et al. 2014).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

LEVELS = 2**16
PER_WORD = 4  # 16-bit integers in a drawn 64-bit word
# Integers drawn at a time: enough to make a call cheap, few enough to stay cached with the masks.
DRAWN_AT_ONCE = 2**19
FEWEST_STEPS = 8

Site = tuple[int, float]
"""A layer of one lane: its units, and the rate at which they are left out."""


class Masks:
    """Masks of lanes whose layers may differ in width and number, the deepest lanes first.

    `sites` says each lane's own layers; `widths` is what each layer is padded to. Padding is
    never drawn and always 0. A step has `rows` rows.
    """

    def __init__(
        self,
        sites: Sequence[Sequence[Site]],
        widths: Sequence[int],
        rngs: Sequence[np.random.Generator],
        rows: int,
        like: Tensor,
    ) -> None:
        self._sites, self._widths = [tuple(each) for each in sites], list(widths)
        self._rngs, self._rows, self._like = list(rngs), rows, like
        self._allocate()

    def start(self, steps: Sequence[int]) -> None:
        """A new epoch, in which each lane takes its own number of steps."""
        self._steps = list(steps)

    def masks(self, step: int, rows: int | None = None) -> list[Tensor]:
        """For each layer (lanes that have it, rows, units): 0, or what keeps the expected value.

        `rows`: only so many of the first.
        """
        at = step % self._run
        if at == 0:
            self._draw(step)
        if at not in self._views:
            self._views[at] = [mask[:, at] for mask in self._masks]
        if rows is None or rows == self._rows:
            return self._views[at]
        return [mask[:, :rows] for mask in self._views[at]]

    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with these lanes only, at the start of an epoch."""
        self._rngs = [self._rngs[lane] for lane in lanes]
        self._sites = [self._sites[lane] for lane in lanes]
        self._allocate()

    def _allocate(self) -> None:
        # A step's integers start with a word of their own, so that a lane draws the same in
        # however large runs of steps.
        self._words = [-(-self._rows * _drawn(sites) // PER_WORD) for sites in self._sites]
        most = max(self._words)
        # Masks are as large as their padding, however little of it is drawn.
        taken = max(1, most * PER_WORD, self._rows * sum(self._widths)) * len(self._sites)
        self._run = max(FEWEST_STEPS, DRAWN_AT_ONCE // taken)
        self._integers = np.zeros((len(self._sites), self._run, most), dtype=np.int64)
        self._masks: list[Tensor] = []
        # Slicing costs as much as a small product, so it is done once for each step of a run.
        self._views: dict[int, list[Tensor]] = {}
        for layer, width in enumerate(self._widths):
            lanes = sum(len(sites) > layer for sites in self._sites)
            self._masks.append(self._like.new_zeros(lanes, self._run, self._rows, width))
        self._runs = [run for layer in range(len(self._widths)) for run in self._alike(layer)]

    def _alike(self, layer: int) -> list[_Alike]:
        """The runs of lanes that draw a layer alike; masks of those that draw none become 1."""
        found = []
        lanes = range(len(self._masks[layer]))
        for _, some in itertools.groupby(lanes, lambda lane: _drawing(self._sites[lane], layer)):
            run = list(some)
            lanes_of, sites = slice(run[0], run[-1] + 1), self._sites[run[0]]
            mask = self._masks[layer][lanes_of, :, :, : sites[layer][0]]
            if sites[layer][1]:
                rates = [self._sites[lane][layer][1] for lane in run]
                found.append(_Alike(lanes_of, self._rows * _drawn(sites[:layer]), mask, rates))
            else:
                mask.fill_(1)
        return found

    def _draw(self, step: int) -> None:
        if not self._runs:
            return
        for lane, (rng, words) in enumerate(zip(self._rngs, self._words, strict=True)):
            steps = min(self._run, self._steps[lane] - step)
            # A lane without dropout draws nothing: its other draws stay as they are alone.
            if words and steps > 0:
                self._integers[lane, :steps, :words] = rng.integers(
                    -(2**63), 2**63 - 1, (steps, words), dtype=np.int64, endpoint=True
                )
        integers = torch.from_numpy(self._integers).view(torch.int16).to(self._like.device)
        for run in self._runs:
            run.fill(integers)


class _Alike:
    """Consecutive lanes whose layer is as wide and lies alike among the integers of a step."""

    def __init__(self, lanes: slice, start: int, mask: Tensor, rates: Sequence[float]) -> None:
        self._lanes, self._mask = lanes, mask
        self._drawn = slice(start, start + mask.shape[2] * mask.shape[3])
        cuts = [round(rate * LEVELS) for rate in rates]
        thresholds = [cut - LEVELS // 2 for cut in cuts]
        scales = [LEVELS / (LEVELS - cut) for cut in cuts]
        self._threshold = mask.new_tensor(thresholds, dtype=torch.int16).view(-1, 1, 1, 1)
        self._scale = mask.new_tensor(scales).view(-1, 1, 1, 1)

    def fill(self, integers: Tensor) -> None:
        raw = integers[self._lanes, :, self._drawn].view(self._mask.shape)
        torch.ge(raw, self._threshold, out=self._mask)
        self._mask.mul_(self._scale)


class Dropout(Masks):
    """Masks of lanes with equal layers of `widths` units, each lane with one rate for all."""

    def __init__(
        self,
        rates: Sequence[float],
        rngs: Sequence[np.random.Generator],
        widths: Sequence[int],
        rows: int,
        like: Tensor,
    ) -> None:
        sites = [[(width, rate) for width in widths] for rate in rates]
        super().__init__(sites, widths, rngs, rows, like)


def _drawn(sites: Sequence[Site]) -> int:
    """Integers drawn for a row: layers without dropout need none."""
    return sum(width for width, rate in sites if rate)


def _drawing(sites: Sequence[Site], layer: int) -> tuple[int, int, bool]:
    return sites[layer][0], _drawn(sites[:layer]), bool(sites[layer][1])
