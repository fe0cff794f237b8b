"""Where a lane's randomness comes from: its trial's seed and its place, nothing else."""

from __future__ import annotations

import numpy as np


def generator(seed: int, repeat: int, fold: int, restart: int = 0) -> np.random.Generator:
    """The generator of one lane: initial weights, order of rows, dropout.

    The same in every attempt, on every device, and whatever the lane is packed with.
    """
    return np.random.Generator(np.random.SFC64([seed, repeat, fold, restart]))


def integer(seed: int, repeat: int, fold: int) -> int:
    """The `random_state` of a model of scikit-learn that is fitted to one fold."""
    return int(generator(seed, repeat, fold).integers(2**31))
