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
FEW = 64
# No component is narrower than this part of a side, nor than one share of so many trials.
NARROWEST = 0.01
# What a component has at least of any value, so that there is a logarithm.
TINY = 1e-300


class Axes:
    """The features of points, in which the logarithm of each component is linear.

    Of a continuous side the position squared, the position, and 1; of one of few values which of
    them it is, as zeros and a one. What is not active is zero all over. So the densities at many
    points are one matrix product.
    """

    def __init__(self, cube: Cube) -> None:
        self.cube = cube
        self.edges = [cube.edges(column, FEW) for column in range(len(cube.names))]
        self.choices = np.array(
            [len(edges) - 1 if edges is not None else 0 for edges in self.edges]
        ) * cube.unordered

    def features(self, points: Points) -> Matrix:
        """Of positions (n, parameters), NaN for what is not active: (n, features)."""
        sides = zip(points.T, self.edges, strict=True)
        return np.concatenate(
            [_powers(x) if edges is None else _one_of(x, edges) for x, edges in sides], axis=1
        )


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
    def of(cls, axes: Axes, rows: Rows, weights: Vector) -> Density:
        """Of trials (n, parameters) with these weights (n,), and of a prior with the weight 1."""
        points = axes.cube.positions(rows)
        prior = np.full((1, points.shape[1]), np.nan)
        widths = np.vstack([_widths(points), np.ones_like(prior)])
        return cls(axes, np.vstack([points, prior]), widths, np.r_[weights, 1.0], len(rows))

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
        return np.asarray(np.median(self.widths, axis=0))

    def log(self, features: Matrix) -> Vector:
        """The logarithm of the density, times the sum of weights, at points (n, features)."""
        logs = features @ self._coefficients + np.log(self.weights)
        most = logs.max(1)
        return np.asarray(np.log(np.exp(logs - most[:, None]).sum(1)) + most)

    def sample(self, count: int, rng: np.random.Generator) -> Points:
        """Positions (count, parameters)."""
        chosen = rng.choice(len(self.weights), size=count, p=self.weights / self.weights.sum())
        known, centres, widths = (each[chosen] for each in self._filled())
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
        return self.axes.choices / (self.axes.choices + self.trials + 1)

    def _filled(self) -> tuple[NDArray[np.bool_], Points, Points]:
        """Where there is a trial's value; centres and widths, those of the prior elsewhere."""
        known = ~np.isnan(self.centres)
        return known, np.where(known, self.centres, 0.5), self.widths

    @cached_property
    def _coefficients(self) -> Matrix:
        """What each feature adds to the logarithm of each component (features, components)."""
        known, centres, widths = self._filled()
        found = []
        for column, edges in enumerate(self.axes.edges):
            centre, width = centres[:, column, None], widths[:, column, None]
            if edges is None:
                found.append(_normal(centre, width))
            elif self.axes.cube.unordered[column]:
                own = known[:, column, None] * (1 - self._elsewhere[column])
                even = (1 - own) / (len(edges) - 1)
                found.append(np.log(own * _one_of(centre[:, 0], edges) + even))
            else:
                found.append(_masses(centre, width, edges))
        return np.concatenate(found, axis=1).T


def _powers(x: Vector) -> Matrix:
    active = ~np.isnan(x)
    filled = np.where(active, x, 0.0)
    return np.stack([filled**2, filled, active], axis=1)


def _one_of(x: Vector, edges: Vector) -> Matrix:
    places = np.where(np.isnan(x), -1, np.searchsorted(edges[1:-1], x, side="right"))
    return np.asarray(places[:, None] == np.arange(len(edges) - 1), dtype=np.float64)


def _normal(centre: Matrix, width: Matrix) -> Matrix:
    """Of a normal distribution between 0 and 1: what its logarithm is made of."""
    precision = width**-2
    mass = ndtr((1 - centre) / width) - ndtr(-centre / width)
    height = -0.5 * centre**2 * precision - np.log(width * mass)
    return np.concatenate([-0.5 * precision, centre * precision, height], axis=1)


def _masses(centre: Matrix, width: Matrix, edges: Vector) -> Matrix:
    """The logarithm of the part of a normal distribution that each value owns."""
    # On the side where it is small: a difference of numbers near 1 would lose it.
    nearer = np.where(edges[1:] <= centre, 1.0, -1.0)
    ends = (edges - centre) / width
    parts = np.abs(ndtr(nearer * ends[:, 1:]) - ndtr(nearer * ends[:, :-1]))
    return np.log(np.maximum(parts, TINY) / parts.sum(1, keepdims=True))


def _widths(points: Points) -> Points:
    """The distance from each trial to the farther of its neighbours on each side, within limits.

    Bergstra (2011), without the ends of the side as neighbours; all of it for what is not active.
    """
    n = len(points)
    order = np.argsort(points, axis=0)  # what is not active comes last
    gaps = np.nan_to_num(np.diff(np.take_along_axis(points, order, axis=0), axis=0))
    none = np.zeros((min(n, 1), points.shape[1]))
    widest = np.maximum(np.vstack([none, gaps]), np.vstack([gaps, none]))
    found = np.empty_like(points)
    np.put_along_axis(found, order, widest, axis=0)
    alone = (~np.isnan(points)).sum(0) == 1
    found = np.where(alone, np.maximum(points, 1 - points), found)
    return np.clip(np.nan_to_num(found, nan=1.0), max(NARROWEST, 1 / (n + 2)), 1.0)
