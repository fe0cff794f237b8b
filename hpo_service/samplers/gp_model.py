"""Gaussian-process regression in the unit cube, and expected improvement: NumPy and LAPACK alone.

Points are rows of `Points`: (n, parameters) in 0 to 1. A parameter marked `unordered` is a choice,
of which only equality counts; all others have a distance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.optimize import minimize
from scipy.special import erfcx, log_ndtr

Points = NDArray[np.float64]
Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Limits of the kernel's weights (inverse squared length scales), its variance and the noise's.
WEIGHTS, VARIANCE, NOISE = (1e-4, 1e4), (1e-2, 1e2), (1e-6, 1.0)
# Of L-BFGS-B: from the prior, and from what a trial before this one was proposed with.
COLD_ITERATIONS, WARM_ITERATIONS = 40, 15

_ROOT5 = 5**0.5
_LOG_ROOT_2PI = 0.5 * np.log(2 * np.pi)


@dataclass(frozen=True)
class Hyperparameters:
    """Logarithms of: a weight for each parameter, the kernel's variance, the noise variance."""

    log: Vector

    @property
    def weights(self) -> Vector:
        return np.exp(self.log[:-2])

    @property
    def variance(self) -> float:
        return float(np.exp(self.log[-2]))

    @property
    def noise(self) -> float:
        return float(np.exp(self.log[-1]))

    @classmethod
    def default(cls, n_parameters: int) -> Hyperparameters:
        """Where a fit begins that has nothing better."""
        return cls(np.log(np.r_[np.ones(n_parameters), 1.0, 1e-2]))


def fit(
    points: Points,
    values: Vector,
    noise: Vector,
    unordered: Mask,
    start: Hyperparameters | None,
) -> Hyperparameters:
    """The most probable hyperparameters for standardised `values` (n,), by L-BFGS-B.

    `noise` (n,): the variance of each value beyond the noise of all. `start` are the
    hyperparameters of an almost equal fit, which need few steps.
    """
    first, second = np.triu_indices(len(points), 1)
    apart = _differences(points[first].T, points[second].T, unordered)
    limits = [WEIGHTS] * points.shape[1] + [VARIANCE, NOISE]
    found = minimize(
        _loss,
        (start or Hyperparameters.default(points.shape[1])).log,
        args=(apart, values, noise, (first, second)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(np.log(low), np.log(high)) for low, high in limits],
        options={"maxiter": WARM_ITERATIONS if start else COLD_ITERATIONS, "ftol": 1e-5},
    )
    return Hyperparameters(found.x)


@dataclass(frozen=True)
class Posterior:
    """What is believed of the objective after values were seen at `points` (n, parameters).

    `factor` is the Cholesky factor of their covariance, `white` (n,) what it maps to the values.
    """

    points: Points
    unordered: Mask
    given: Hyperparameters
    factor: NDArray[np.float64]
    white: Vector

    @classmethod
    def of(
        cls, points: Points, values: Vector, noise: Vector, unordered: Mask, given: Hyperparameters
    ) -> Posterior:
        """After these values (n,), each with a variance `noise` (n,) beyond that of all."""
        nothing = np.empty((0, points.shape[1])), unordered, given, np.empty((0, 0)), np.empty(0)
        return cls(*nothing).extended(points, values, noise)

    def extended(self, points: Points, values: Vector, noise: Vector | float = 0.0) -> Posterior:
        """After more values (m,): the factor grows by m rows, nothing is factored again."""
        n, m = len(self.points), len(points)
        if not m:
            return self
        half = self._half(points)
        covariance = self.given.variance * _matern(
            _distances(points, points, self.given.weights, self.unordered)
        )
        covariance.flat[:: m + 1] = self.given.variance + self.given.noise + noise
        corner = _cholesky(covariance - half.T @ half)
        factor = np.zeros((n + m, n + m), order="F")
        factor[:n, :n], factor[n:, :n], factor[n:, n:] = self.factor, half.T, corner
        white = _solved(corner, values - half.T @ self.white)
        return replace(
            self,
            points=np.vstack([self.points, points]),
            factor=factor,
            white=np.r_[self.white, white],
        )

    def mean(self, points: Points) -> Vector:
        """The expected value at each of the points."""
        return np.asarray(self._covariance(points) @ self._weights)

    def mean_and_deviation(self, points: Points) -> tuple[Vector, Vector]:
        """The expected value and its standard deviation, without noise, at each of the points."""
        half = self._half(points)
        left = self.given.variance - np.einsum("ij,ij->j", half, half)
        return half.T @ self.white, np.sqrt(np.maximum(left, 1e-12))

    @cached_property
    def _weights(self) -> Vector:
        """Of the values seen, in what is expected elsewhere."""
        return _solved(self.factor, self.white, transposed=True)

    def _half(self, points: Points) -> NDArray[np.float64]:
        """The factor's inverse times the covariance (n, points)."""
        return _solved(self.factor, self._covariance(points).T)

    def _covariance(self, points: Points) -> NDArray[np.float64]:
        apart = _distances(points, self.points, self.given.weights, self.unordered)
        return self.given.variance * _matern(apart)


def log_expected_improvement(mean: Vector, deviation: Vector, best: float) -> Vector:
    """How far below `best` to expect the value, as a logarithm that never underflows.

    Ament et al., "Unexpected improvements to expected improvement" (2023), equation 9.
    """
    z = (best - mean) / deviation
    near = np.maximum(z, -1.0)
    density = np.exp(-0.5 * near * near - _LOG_ROOT_2PI)
    usual = np.log(density + near * np.exp(log_ndtr(near)))
    far = np.minimum(z, -1.0)
    # 1 - |z| * cdf / density, which cancels beyond 1e6, where its series is 1 / z**2.
    ratio = -far * erfcx(-far / 2**0.5) * (np.pi / 2) ** 0.5
    rest = np.where(far > -1e6, np.log(np.maximum(1 - ratio, 1e-300)), -2 * np.log(-far))
    tail = -0.5 * far * far - _LOG_ROOT_2PI + rest
    return np.asarray(np.log(deviation) + np.where(z > -1.0, usual, tail))


# --- likelihood -----------------------------------------------------------------------------


def _loss(
    log: Vector,
    apart: NDArray[np.float64],
    values: Vector,
    noise: Vector,
    pairs: tuple[NDArray[np.intp], ...],
) -> tuple[float, Vector]:
    """The negative log posterior density of the hyperparameters, and its gradient.

    `apart` (parameters, pairs) holds the squared differences of each pair of points once.
    Rasmussen and Williams, "Gaussian processes for machine learning" (2006), equations 5.8, 5.9.
    """
    given = Hyperparameters(log)
    decay, root, squared = _decay(given.weights @ apart)
    kernel = given.variance * (1 + root + squared) * decay
    covariance = np.empty((len(values), len(values)))
    covariance[pairs] = covariance[pairs[::-1]] = kernel
    covariance.flat[:: len(values) + 1] = given.variance + given.noise + noise
    factor = _cholesky(covariance)
    solved = lapack.dpotrs(factor, values, lower=1)[0]
    inverse = lapack.dpotri(factor, lower=1)[0]  # of which the lower half is filled
    # Half the derivative by the covariance: twice for each pair, once for the diagonal.
    by_pair = inverse[pairs[::-1]] - solved[pairs[0]] * solved[pairs[1]]
    by_self = 0.5 * float(np.trace(inverse) - solved @ solved)
    slope = by_pair * decay * (1 + root) * (-5 / 6 * given.variance)
    gradient = np.empty(len(log))
    gradient[:-2] = (apart @ slope) * given.weights
    gradient[-2] = by_pair @ kernel + by_self * given.variance
    gradient[-1] = by_self * given.noise
    loss = 0.5 * values @ solved + np.log(factor.diagonal()).sum()
    prior, prior_gradient = _prior(given)
    return float(loss - prior), gradient - prior_gradient


def _prior(given: Hyperparameters) -> tuple[float, Vector]:
    """The log density, without its constant, and its gradient by the logarithms.

    Those of Optuna's GP: weights near 1, variance Gamma(2, 1), noise Gamma(1.1, 20).
    """
    weights, variance, noise = given.weights, given.variance, given.noise
    density = -0.1 * (1 / weights + weights).sum()
    density += np.log(variance) - variance + 0.1 * np.log(noise) - 20 * noise
    gradient = np.append(0.1 * (1 / weights - weights), [1 - variance, 0.1 - 20 * noise])
    return float(density), gradient


# --- kernel ---------------------------------------------------------------------------------


def _differences(one: Points, other: Points, unordered: Mask) -> NDArray[np.float64]:
    """Squared differences by parameter (the first axis): 0 or 1 where it is unordered."""
    apart = (one - other) ** 2
    apart[unordered] = one[unordered] != other[unordered]
    return apart


def _distances(one: Points, other: Points, weights: Vector, unordered: Mask) -> NDArray[np.float64]:
    """Weighted squared distances (n, m), by one matrix product and the choices that differ."""
    scale = np.sqrt(weights[~unordered])
    left, right = one[:, ~unordered] * scale, other[:, ~unordered] * scale
    squared = (left**2).sum(1)[:, None] + (right**2).sum(1) - 2 * left @ right.T
    for column in np.flatnonzero(unordered):
        squared += weights[column] * (one[:, column, None] != other[:, column])
    return np.asarray(np.maximum(squared, 0.0))


def _matern(squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Matern-5/2 correlation at weighted squared distances."""
    decay, root, third = _decay(squared)
    return np.asarray((1 + root + third) * decay)


def _decay(
    squared: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    root = _ROOT5 * np.sqrt(squared)
    return np.exp(-root), root, squared * (5 / 3)


def _cholesky(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    factor, problem = lapack.dpotrf(covariance, lower=1, clean=1)
    if problem:
        raise np.linalg.LinAlgError("the covariance is not positive definite")
    return np.asarray(factor)


def _solved(
    factor: NDArray[np.float64], right: NDArray[np.float64], *, transposed: bool = False
) -> NDArray[np.float64]:
    """The solution of a lower triangular system."""
    if not len(factor):  # which LAPACK refuses
        return right
    return np.asarray(lapack.dtrtrs(factor, right, lower=1, trans=int(transposed))[0])
