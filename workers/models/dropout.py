"""Dropout masks for many lanes, cheap and the same whatever a lane is packed with.

Each lane's own generator draws raw 16-bit integers for a run of steps at once; a unit stays where
its integer is not below the lane's threshold, and what stays is scaled up so that the expected
value is unchanged (Srivastava et al. 2014).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

LEVELS = 2**16
PER_WORD = 4  # 16-bit integers in a drawn 64-bit word
# Integers drawn for one lane at a time: enough to make a call cheap, few enough to stay cached.
DRAWN_AT_ONCE = 2**17


class Dropout:
    """Masks for hidden layers of `widths` units and `rows` rows a step, (lanes, rows, units)."""

    def __init__(
        self,
        rates: Sequence[float],
        rngs: Sequence[np.random.Generator],
        widths: Sequence[int],
        rows: int,
        like: Tensor,
    ) -> None:
        self._rngs = list(rngs)
        self._cuts = [round(rate * LEVELS) for rate in rates]
        self._widths, self._rows, self._like = list(widths), rows, like
        self._per_step = rows * sum(widths)
        self._run = max(1, DRAWN_AT_ONCE // self._per_step)
        self._allocate()

    def start(self, steps: Sequence[int]) -> None:
        """A new epoch, in which each lane takes its own number of steps."""
        self._steps = list(steps)

    def masks(self, step: int) -> list[Tensor]:
        """For each hidden layer (lanes, rows, units): 0, or what keeps the expected value."""
        at = step % self._run
        if at == 0:
            self._draw(step)
        return [mask[:, at] for mask in self._masks]

    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with these lanes only, at the start of an epoch."""
        self._rngs = [self._rngs[lane] for lane in lanes]
        self._cuts = [self._cuts[lane] for lane in lanes]
        self._allocate()

    def _allocate(self) -> None:
        lanes, drawn = len(self._cuts), self._run * self._per_step
        self._words = np.zeros((lanes, -(-drawn // PER_WORD)), dtype=np.int64)
        self._masks = [
            self._like.new_empty(lanes, self._run, self._rows, width) for width in self._widths
        ]
        thresholds = [cut - LEVELS // 2 for cut in self._cuts]
        scales = [LEVELS / (LEVELS - cut) for cut in self._cuts]
        self._threshold = self._like.new_tensor(thresholds, dtype=torch.int16).view(-1, 1, 1, 1)
        self._scale = self._like.new_tensor(scales).view(-1, 1, 1, 1)

    def _draw(self, step: int) -> None:
        for lane, rng in enumerate(self._rngs):
            steps = min(self._run, self._steps[lane] - step)
            # A lane without dropout draws nothing: its other draws stay as they are alone.
            if self._cuts[lane] and steps > 0:
                words = -(-steps * self._per_step // PER_WORD)
                self._words[lane, :words] = rng.integers(
                    -(2**63), 2**63 - 1, words, dtype=np.int64, endpoint=True
                )
        integers = torch.from_numpy(self._words).view(torch.int16).to(self._like.device)
        lanes, drawn = len(integers), self._run * self._per_step
        by_step = integers[:, :drawn].view(lanes, self._run, self._per_step)
        start = 0
        for mask, width in zip(self._masks, self._widths, strict=True):
            # Within a step the layers' integers follow each other.
            raw = by_step[:, :, start : start + self._rows * width].view(mask.shape)
            torch.ge(raw, self._threshold, out=mask)
            mask.mul_(self._scale)
            start += self._rows * width
