"""Training images that are moved, mirrored and cropped at random, lane by lane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpo_service import errors


class Augmentation:
    """Draws for each training row of an epoch how it is moved, and moves it.

    `settings` have `batch_size`, `shift`, `flip` and `crop`; `sides` are the images' height and
    width. Each lane's own generator draws for an epoch at once, for every row of its own steps, so
    that a lane draws the same whatever it is packed with. A signal (height 1) moves in time only.
    """

    def __init__(
        self,
        settings: Sequence[Any],
        rngs: Sequence[np.random.Generator],
        sides: tuple[int, int],
        like: Tensor,
    ) -> None:
        self._settings, self._rngs = list(settings), list(rngs)
        self._sides, self._like = sides, like
        self._drawn = torch.empty(0)

    @staticmethod
    def needed(settings: Sequence[Any]) -> bool:
        """Whether any of the lanes changes its rows."""
        return any(each.shift or each.flip or each.crop for each in settings)

    def start(self, steps: Sequence[int]) -> None:
        """A new epoch, in which each lane takes its own number of steps."""
        rows = max(each.batch_size for each in self._settings)
        drawn = np.zeros((len(steps), max(steps), rows, 5), dtype=np.int64)
        for lane, (settings, rng) in enumerate(zip(self._settings, self._rngs, strict=True)):
            drawn[lane, : steps[lane]] = self._draw(settings, rng, (steps[lane], rows))
        self._drawn = torch.from_numpy(drawn).to(self._like.device)

    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with these lanes only, at the start of an epoch."""
        self._settings = [self._settings[lane] for lane in lanes]
        self._rngs = [self._rngs[lane] for lane in lanes]

    def apply(
        self, step: int, images: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The step's images (lanes, rows, channels, height, width), changed; zeros fill them up.

        `lengths` (lanes, rows): where signals end; they move with the signal, of which at least
        one step stays.
        """
        height, width = self._sides
        down, right, mirrored, top, left = self._drawn[:, step, : images.shape[1]].unbind(2)
        if lengths is not None:
            right = torch.maximum(right, 1 - lengths.long())
            lengths = (lengths + right).clamp(max=width)
        y, seen_y = self._sources(down, top, height)
        x, seen_x = self._sources(right, left, width)
        x = torch.where(mirrored.unsqueeze(2) > 0, width - 1 - x, x)
        source = (y.unsqueeze(3) * width + x.unsqueeze(2)).flatten(2).unsqueeze(2)
        seen = seen_y.unsqueeze(3) & seen_x.unsqueeze(2)
        flat = images.reshape(*images.shape[:3], -1)
        found = flat.gather(3, source.expand_as(flat)).view(images.shape)
        return found * seen.unsqueeze(2), lengths

    def _draw(
        self, settings: Any, rng: np.random.Generator, size: tuple[int, int]
    ) -> NDArray[np.int64]:
        """Down, right, whether mirrored, cut at the top, cut at the left: (steps, rows, 5)."""
        found = np.zeros((*size, 5), dtype=np.int64)
        # What is switched off draws nothing; a single line of pixels cannot move up or down.
        axes = [axis for axis, side in enumerate(self._sides) if side > 1]
        for axis in axes:
            if settings.shift:
                found[..., axis] = rng.integers(-settings.shift, settings.shift + 1, size)
            if settings.crop:
                found[..., 3 + axis] = rng.integers(0, settings.crop + 1, size)
        if settings.flip:
            found[..., 2] = rng.integers(0, 2, size)
        return found

    def _sources(self, moved: Tensor, cut: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """For each pixel along a side the one it comes from, and whether there is one."""
        crop = [each.crop if side > 1 else 0 for each in self._settings]
        window = side - torch.tensor(crop, device=moved.device).view(-1, 1, 1)
        source = torch.arange(side, device=moved.device) - moved.unsqueeze(2)
        first = cut.unsqueeze(2)
        seen = (source >= first) & (source < first + window)
        return source.clamp(0, side - 1), seen


def check(settings: Any, sides: tuple[int, int], signal: bool) -> None:
    """Raise `InvalidRequest` where an augmentation would leave nothing of an image or signal."""
    shortest = min([side for side in sides if side > 1], default=1)
    what = f"a signal of {sides[1]} steps" if signal else f"an image of {sides[0]} x {sides[1]}"
    for name in ("shift", "crop"):
        pixels = getattr(settings, name)
        if pixels and pixels >= shortest:
            message = f"{pixels} leaves nothing of {what}: at most {shortest - 1}"
            raise errors.invalid(f"params.{name}", message)
    for name in ("flip", "crop"):
        if signal and getattr(settings, name):
            raise errors.invalid(f"params.{name}", "for images only: a signal can be shifted")
