"""Where a trial would stand among others."""

from __future__ import annotations

import numpy as np

from hpo_service import dominance
from hpo_service.seen import Losses

# With several metrics an order takes time that grows with the square of the trials: of more than
# so many rivals an even sample stands for all.
MOST_RIVALS = 400


def place(losses: Losses, rivals: Losses) -> float:
    """How many rivals (trials, metrics) are better than a trial of these `losses` (metrics,).

    With several metrics those of better fronts are, and in its own front those farther from their
    neighbours; what is not finite is behind all that is. Of a sample, as many as of all.
    """
    if losses.shape[0] == 1:
        known = rivals[:, 0][~np.isnan(rivals[:, 0])]
        return float(len(known) if np.isnan(losses[0]) else (known < losses[0]).sum())
    sample = rivals[_even(len(rivals))]
    order = dominance.order(np.vstack([losses, sample]))
    better = float(np.flatnonzero(order == 0)[0])
    return better * len(rivals) / max(len(sample), 1)


def _even(n: int) -> slice | np.ndarray:
    if n <= MOST_RIVALS:
        return slice(None)
    return np.linspace(0, n - 1, MOST_RIVALS).astype(np.intp)
