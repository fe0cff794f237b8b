"""Initial weights, one function for each name of `catalog.initializations`.

Each draws a (fan_in, fan_out) float64 matrix from the lane's own generator, so that the weights
depend neither on the device nor on what the lane is packed with.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Weights]

# The spread of weights that do not scale with the layer.
PLAIN_SPREAD = 0.05


def zeros(rng: np.random.Generator, fan_in: int, fan_out: int) -> Weights:
    """All units of a layer alike: they stay alike, shown for teaching."""
    return np.zeros((fan_in, fan_out))


def orthogonal(rng: np.random.Generator, fan_in: int, fan_out: int) -> Weights:
    """A random orthogonal matrix (Saxe et al. 2014)."""
    long, short = max(fan_in, fan_out), min(fan_in, fan_out)
    q, r = np.linalg.qr(rng.standard_normal((long, short)))
    # The signs make the distribution uniform over orthogonal matrices.
    weights: Weights = q * np.sign(np.diagonal(r))
    return weights if fan_in >= fan_out else weights.T


def _normal(deviation: Callable[[int, int], float]) -> Draw:
    return lambda rng, fan_in, fan_out: (
        deviation(fan_in, fan_out) * rng.standard_normal((fan_in, fan_out))
    )


def _uniform(deviation: Callable[[int, int], float]) -> Draw:
    # A uniform distribution over +-b has standard deviation b / sqrt(3).
    return lambda rng, fan_in, fan_out: (
        deviation(fan_in, fan_out) * 3**0.5 * rng.uniform(-1.0, 1.0, (fan_in, fan_out))
    )


def _xavier(fan_in: int, fan_out: int) -> float:
    """Glorot and Bengio 2010."""
    return float((2 / (fan_in + fan_out)) ** 0.5)


def _he(fan_in: int, fan_out: int) -> float:
    """He et al. 2015."""
    return float((2 / fan_in) ** 0.5)


def _lecun(fan_in: int, fan_out: int) -> float:
    """LeCun et al. 1998."""
    return float((1 / fan_in) ** 0.5)


INITIALIZATIONS: dict[str, Draw] = {
    "zeros": zeros,
    "normal": _normal(lambda fan_in, fan_out: PLAIN_SPREAD),
    "uniform": _uniform(lambda fan_in, fan_out: PLAIN_SPREAD / 3**0.5),
    "xavier_uniform": _uniform(_xavier),
    "xavier_normal": _normal(_xavier),
    "he_uniform": _uniform(_he),
    "he_normal": _normal(_he),
    "lecun_uniform": _uniform(_lecun),
    "lecun_normal": _normal(_lecun),
    "orthogonal": orthogonal,
}
