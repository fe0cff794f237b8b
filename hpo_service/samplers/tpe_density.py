"""Densities of trials in the unit cube: mixtures with one component for each, and a prior.

A component is a product over the parameters: a normal distribution cut off at the ends of the
side, or probabilities of choices. Watanabe, "Tree-structured Parzen estimator: understanding its
algorithm components and their roles for better empirical performance" (2023).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr, ndtri

from hpo_service.cube import Cube, Rows

Points = NDArray[np.float64]
Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

# Ranges of more values are taken for continuous.
FEW = 64
# No component is narrower than this part of a side, or than a share among so many.
NARROWEST = 0.01


class Features:
    """What a log density is linear in: for each parameter, what each of its values is told by.

    Of a range of numbers the square, the number itself and whether it is active; of a few values,
    which one it is. What is not active is zero all over.
    """

    def __init__(self, cube: Cube) -> None:
        self.cube = cube
        self.edges = [cube.edges(column, FEW) for column in range(len(cube.names))]
        self.few = np.array([edges is not None for edges in self.edges])

    def of(self, points: Points) -> Matrix:
        """The features (n, features) of positions (n, parameters)."""
        return np.concatenate(
            [
                _smooth(points[:, column]) if edges is None else _one_of(points[:, column], edges)
                for column, edges in enumerate(self.edges)
            ],
            axis=1,
        )


def _smooth(x: Vector) -> Matrix:
    active = ~np.isnan(x)
    filled = np.where(active, x, 0.0)
    return np.stack([filled**2, filled, active], axis=1)


def _one_of(x: Vector, edges: Vector) -> Matrix:
    place = np.searchsorted(edges[1:-1], x, side="right")  # any at all for NaN
    return ((place[:, None] == np.arange(len(edges) - 1)) & ~np.isnan(x)[:, None]).astype(float)


class Density:
    """The mixture of these rows (n, parameters), each with its weight (n,), and of the prior."""

    def __init__(self, features: Features, rows: Rows, weights: Vector) -> None:
        self.features, cube = features, features.cube
        points = cube.positions(rows)
        self.weights = np.r_[weights, 1.0]
        self.widths = np.vstack([np.where(np.isnan(points), 1.0, widths(points)), np.ones((1, points.shape[1]))])
        # What is not active in a trial has the prior there.
        self.known = np.vstack([~np.isnan(points), np.zeros((1, points.shape[1]), dtype=bool)])
        self.centres = np.vstack([np.where(np.isnan(points), 0.5, points), np.full((1, points.shape[1]), 0.5)])

    def log(self, features: Matrix) -> Vector:
        """The logarithm of the density times the sum of weights, at each of the points."""
        logs = features @ self._coefficients().T + np.log(self.weights)
        most = logs.max(1)
        return np.log(np.exp(logs - most[:, None]).sum(1)) + most

    def sample(self, count: int, rng: np.random.Generator) -> Points:
        """Positions (count, parameters)."""
        chosen = rng.choice(len(self.weights), size=count, p=self.weights / self.weights.sum())
        centres, widths = self.centres[chosen], self.widths[chosen]
        low, high = ndtr(-centres / widths), ndtr((1 - centres) / widths)
        uniform = rng.random(centres.shape)
        normal = np.clip(centres + widths * ndtri(low + uniform * (high - low)), 0.0, 1.0)
        unordered = self.features.cube.unordered
        other = ~self.known[chosen] | (rng.random(centres.shape) < self._elsewhere())
        return np.where(unordered, np.where(other, uniform, centres), normal)

    def _elsewhere(self) -> Vector:
        """How often a component has any choice, not the one of its trial."""
        sizes = np.array([0 if e is None else len(e) - 1 for e in self.features.edges])
        spread = sizes / max(len(self.weights),1)
        return spread / (1 + spread)

    def _coefficients(self) -> Matrix:
        """What each feature adds to the log density of each component (components, features)."""
        found = []
        elsewhere = self._elsewhere()
        for column, edges in enumerate(self.features.edges):
            centre, width = self.centres[:, column, None], self.widths[:, column, None]
            if edges is None:
                found.append(_normal(centre, width))
            elif self.features.cube.unordered[column]:
                own = _one_of(np.where(self.known[:, column], centre[:, 0], np.nan), edges)
                any_ = np.where(self.known[:, column], elsewhere[column], 1.0)[:, None]
                found.append(np.log(own * (1 - any_) + any_ / (len(edges) - 1)))
            else:
                found.append(_masses(centre, width, edges))
        return np.concatenate(found, axis=1)


def _normal(centre: Matrix, width: Matrix) -> Matrix:
    precision = width**-2
    mass = ndtr((1 - centre) / width) - ndtr(-centre / width)
    return np.concatenate(
        [-0.5 * precision, centre * precision, -0.5 * centre**2 * precision - np.log(width * mass)],
        axis=1,
    )


def _masses(centre: Matrix, width: Matrix, edges: Vector) -> Matrix:
    """The logarithm of each value's part of a component."""
    below = ndtr((edges - centre) / width)
    above = ndtr((centre - edges) / width)
    # Differences of small numbers: taken from the nearer side.
    mass = np.where(edges[1:] <= centre, np.diff(below), -np.diff(above))
    return np.log(np.maximum(mass, 1e-300) / (below[:, -1:] - below[:, :1]))


def widths(points: Points) -> Points:
    """The standard deviation of each trial's component in each parameter (n, parameters).

    The distance to the farther of the two neighbours (Bergstra, 2011), within limits.
    """
    n = len(points)
    order = np.argsort(points, axis=0)  # what is not active comes last
    gaps = np.nan_to_num(np.diff(np.take_along_axis(points, order, 0), axis=0))
    zero = np.zeros((1, points.shape[1]))
    widest = np.maximum(np.vstack([zero[:n], gaps]), np.vstack([gaps, zero[:n]])) if n else points
    found = np.empty_like(points)
    np.put_along_axis(found, order, widest, 0)
    alone = (~np.isnan(points)).sum(0) == 1
    found = np.where(alone, np.maximum(points, 1 - points), found)
    return np.clip(found, 1 / min(1 / NARROWEST, n + 2), 1.0)
