"""Penalties on the gradient: what training minimises beside the loss of the rows.

They act on the flat (lanes, numbers) gradient, so no family has to know them. The order is that
of a loss which holds the penalties, then `torch.nn.utils.clip_grad_norm_`, then an optimizer:
performance ratio, L1, clipping; weight decay follows in the optimizer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hpo_service.catalog import NetworkHyperparameters

# Of `clip_grad_norm_`, so that results agree with it.
CLIP_EPSILON = 1e-6


class Penalties:
    """The penalties of some lanes; those that no lane has cost nothing.

    `settings`: `NetworkHyperparameters` of each lane. `sizes` (lanes, 1): the numbers a lane
    really has, without padding, in the parameters' dtype and on their device.
    """

    def __init__(self, settings: Sequence[NetworkHyperparameters], sizes: Tensor) -> None:
        assert sizes.is_floating_point(), "columns have the dtype of the parameters"
        self._settings, self._sizes = list(settings), sizes
        self._set_columns()

    def apply(self, parameters: Tensor, gradient: Tensor) -> None:
        """Turn the gradient of the rows' mean loss into that of what is minimised, in place."""
        with torch.inference_mode():
            if self._has_ratio:
                gradient.mul_(self._share).addcmul_(parameters, self._pull)
            if self._has_l1:
                gradient.addcmul_(self._signs(parameters), self._l1)
            if self._has_clip:
                norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
                factor = (self._clip / norm.add_(CLIP_EPSILON)).clamp_(max=1)
                # Not times 1 by arithmetic: a diverged lane that is not clipped stays the same.
                gradient.mul_(torch.where(self._clip > 0, factor, 1.0))

    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with these lanes only."""
        at = list(lanes)
        self._settings = [self._settings[lane] for lane in at]
        self._sizes = self._sizes[at]
        self._set_columns()

    def _set_columns(self) -> None:
        ratio = self._column([s.performance_ratio for s in self._settings])
        # loss' = (1 - ratio) * loss + ratio * mean(w^2), as MATLAB's `msereg`.
        self._share, self._pull = 1 - ratio, 2 * ratio / self._sizes
        self._l1 = self._column([s.l1 for s in self._settings])
        self._clip = self._column([s.clip_norm for s in self._settings])
        self._has_ratio = any(s.performance_ratio for s in self._settings)
        self._has_l1 = any(s.l1 for s in self._settings)
        self._has_clip = any(s.clip_norm for s in self._settings)
        self._sign: Tensor | None = None

    def _signs(self, parameters: Tensor) -> Tensor:
        if self._sign is None:
            self._sign = torch.empty_like(parameters)
        return torch.sign(parameters, out=self._sign)

    def _column(self, values: Sequence[float]) -> Tensor:
        return self._sizes.new_tensor(values).unsqueeze(1)


def penalties(settings: Sequence[NetworkHyperparameters], sizes: Tensor) -> Penalties:
    """The penalties of lanes with these `NetworkHyperparameters`; `sizes` (lanes, 1)."""
    return Penalties(settings, sizes)
