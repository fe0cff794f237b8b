"""Densities of trials in the unit cube: mixtures with a component for each trial, and a prior.

A component is a product over the parameters: a normal distribution cut off at the ends of the side,
or how often each choice is taken. Optuna's default (version 5); Watanabe, "Tree-structured Parzen
estimator: understanding its algorithm components and their roles for better empirical
performance" (2023).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from hpo_service.cube import Cube, Rows

Points = NDArray[np.float64]
Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

# A range of more values is taken for a continuous one.
FEW, MANY = 64, 10**9
# No component is narrower than this part of a side, nor than one share of so many trials.
NARROWEST = 0.01
# How wide a component is on a side of few values, were it alone.
EVEN = 0.15
# Points that are judged at once: a matrix of so many by all trials stays in the cache.
AT_ONCE = 64
# What a component has at least of any value, so that there is a logarithm.
TINY = 1e-300
# The logarithm of a part that counts for nothing: beyond it, exponentials become slow.
NOTHING = -60.0


class Axes:
    """The features of points, in which the logarithm of each component is linear.

    Of continuous sides the position squared, the position, and 1; of one of few values which of
    them it is, as zeros and a one. What is not active is zero all over. So the densities at many
    points are one matrix product.
    """

    def __init__(self, cube: Cube) -> None:
        self.cube = cube
        edges = [
            cube.edges(column, MANY if unordered else FEW)
            for column, unordered in enumerate(cube.unordered)
        ]
        self.few = [(column, found) for column, found in enumerate(edges) if found is not None]
        self.continuous = np.array([found is None for found in edges])
        sizes = [0 if found is None else len(found) - 1 for found in edges]
        self.choices = np.array(sizes) * cube.unordered

    def features(self, points: Points) -> Matrix:
        """Of positions (n, parameters), NaN for what is not active: (n, features)."""
        positions = points[:, self.continuous]
        active = ~np.isnan(positions)
        positions = np.where(active, positions, 0.0)
        few = [_one_of(points[:, column], edges) for column, edges in self.few]
        return np.concatenate([positions**2, positions, active, *few], axis=1)


@dataclass(frozen=True)
class Density:
    """Components with `centres` and `widths` (components, parameters) and `weights` (components,).

    Where a centre is NaN there is the prior: nearly even, or all choices alike. The more `trials`
    there are, the less does a choice say of others.
    """

    axes: Axes
    centres: Points
    widths: Points
    weights: Vector
    trials: int

    @classmethod
    def of(cls, axes: Axes, rows: Rows, weights: Vector, least: Vector | float = 0.0) -> Density:
        """Of trials (n, parameters) with these weights (n,), and of a prior with the weight 1.

        `least` (n,) is how wide the components are at least, were they alone.
        """
        points = axes.cube.positions(rows)
        n, n_parameters = points.shape
        prior = np.full((1, n_parameters), np.nan)
        least = np.where(axes.continuous, np.reshape(least, (-1, 1)), EVEN)
        # Scott, "Multivariate density estimation" (1992): narrower, the more there are.
        narrowing = max(n, 1) ** (-1 / (n_parameters + 4))
        widths = np.maximum(_gaps(points) * axes.continuous, least * narrowing)
        widths = np.where(np.isnan(points), 1.0, widths)
        return cls(
            axes=axes,
            centres=np.vstack([points, prior]),
            widths=np.vstack([widths, np.ones_like(prior)]),
            weights=np.r_[weights, 1.0],
            trials=n,
        )

    def with_running(self, rows: Rows) -> Density:
        """Of these trials alone, each as wide as is usual in this one."""
        return replace(
            self,
            centres=self.axes.cube.positions(rows),
            widths=np.where(np.isnan(rows), 1.0, self._usual),
            weights=np.ones(len(rows)),
        )

    @cached_property
    def _usual(self) -> Vector:
        # Side by side in memory: the median is several times as quick.
        return np.asarray(np.median(np.ascontiguousarray(self.widths.T), axis=1))

    def log(self, features: Matrix) -> Vector:
        """The logarithm of the density, times the sum of weights, at points (n, features)."""
        heights = np.log(self.weights)
        parts = [
            _log_sum(features[at : at + AT_ONCE] @ self._coefficients + heights)
            for at in range(0, len(features), AT_ONCE)
        ]
        return np.concatenate([*parts, []])

    def sample(self, count: int, rng: np.random.Generator) -> Points:
        """Positions (count, parameters)."""
        chosen = rng.choice(len(self.weights), size=count, p=self.weights / self.weights.sum())
        known, centres, widths = self._filled()
        known, centres, widths = known[chosen], centres[chosen], widths[chosen]
        even, other = rng.random((2, *centres.shape))
        low, high = ndtr(-centres / widths), ndtr((1 - centres) / widths)
        numbers = np.clip(centres + widths * ndtri(low + even * (high - low)), 0.0, 1.0)
        choices = np.where(known & (other >= self._elsewhere), centres, even)
        return np.where(self.axes.cube.unordered, choices, numbers)

    @property
    def _elsewhere(self) -> Vector:
        """Of each parameter how often a component ignores its trial's choice: less, the more
        trials there are.
        """
        return np.asarray(self.axes.choices / (self.axes.choices + self.trials + 1))

    def _filled(self) -> tuple[NDArray[np.bool_], Points, Points]:
        """Where there is a trial's value; centres and widths, those of the prior elsewhere."""
        known = np.asarray(~np.isnan(self.centres))
        return known, np.where(known, self.centres, 0.5), self.widths

    @cached_property
    def _coefficients(self) -> Matrix:
        """What each feature adds to the logarithm of each component (features, components)."""
        known, centres, widths = self._filled()
        smooth = self.axes.continuous
        found = _normal(centres[:, smooth], widths[:, smooth])
        for column, edges in self.axes.few:
            centre, width = centres[:, column, None], widths[:, column, None]
            if self.axes.cube.unordered[column]:
                own = known[:, column, None] * (1 - self._elsewhere[column])
                even = (1 - own) / (len(edges) - 1)
                found.append(np.log(own * _one_of(centre[:, 0], edges) + even))
            else:
                found.append(_masses(centre, width, edges))
        return np.ascontiguousarray(np.concatenate(found, axis=1).T)


def _log_sum(logs: Matrix) -> Vector:
    """The logarithm of the sum of exponentials along each row."""
    most = logs.max(1, keepdims=True)
    logs -= most
    np.maximum(logs, NOTHING, out=logs)
    return np.asarray(np.log(np.exp(logs, out=logs).sum(1)) + most[:, 0])


def _one_of(x: Vector, edges: Vector) -> Matrix:
    places = np.where(np.isnan(x), -1, np.searchsorted(edges[1:-1], x, side="right"))
    return np.asarray(places[:, None] == np.arange(len(edges) - 1), dtype=np.float64)


def _normal(centres: Points, widths: Points) -> list[Matrix]:
    """Of normal distributions between 0 and 1: what their logarithms are made of."""
    precision = widths**-2
    mass = ndtr((1 - centres) / widths) - ndtr(-centres / widths)
    height = -0.5 * centres**2 * precision - np.log(widths * mass)
    return [-0.5 * precision, centres * precision, height]


def _masses(centre: Matrix, width: Matrix, edges: Vector) -> Matrix:
    """The logarithm of the part of a normal distribution that each value owns."""
    # On the side where it is small: a difference of numbers near 1 would lose it.
    nearer = np.where(edges[1:] <= centre, 1.0, -1.0)
    ends = (edges - centre) / width
    parts = np.abs(ndtr(nearer * ends[:, 1:]) - ndtr(nearer * ends[:, :-1]))
    return np.asarray(np.log(np.maximum(parts, TINY)) - np.log(parts.sum(1, keepdims=True)))


def _gaps(points: Points) -> Points:
    """The distance from each trial to the farther of its neighbours on each side, within limits.

    Bergstra (2011), without the ends of the side as neighbours; NaN for what is not active.
    """
    n = len(points)
    sides = np.ascontiguousarray(points.T)
    order = np.argsort(sides, axis=1)  # what is not active comes last
    gaps = np.diff(np.take_along_axis(sides, order, axis=1), axis=1)
    gaps = np.where(np.isnan(gaps), 0.0, gaps)
    none = np.zeros((len(sides), min(n, 1)))
    widest = np.maximum(np.hstack([none, gaps]), np.hstack([gaps, none]))
    found = np.empty_like(sides)
    np.put_along_axis(found, order, widest, axis=1)
    alone = (~np.isnan(points)).sum(0) == 1
    found = np.where(alone, np.maximum(points, 1 - points), found.T)
    return np.clip(found, max(NARROWEST, 1 / (n + 2)), 1.0)
