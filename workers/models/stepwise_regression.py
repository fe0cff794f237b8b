"""Stepwise regression: columns are added or dropped one by one while a criterion falls."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression

from hpo_service import errors
from hpo_service.catalog.stepwise_regression import StepwiseRegressionHyperparameters
from workers.models import linear
from workers.models.base import Weights
from workers.models.estimators import Rows
from workers.models.linear import Linear

MOST_COLUMNS = 2000
# The share of a column's variance that the chosen ones leave: with less it adds nothing.
TOLERANCE = 1e-7
SMALLEST_LOSS = 1e-12  # of the target's variance: less is rounding


def learn(settings: StepwiseRegressionHyperparameters, rows: Rows) -> Linear:
    """Least squares on the columns chosen for each target; the others' coefficients are 0.

    Raises `InvalidRequest` where the columns are too many.
    """
    _check(rows.inputs.shape[1])
    coef = np.zeros((rows.target.shape[1], rows.inputs.shape[1]))
    intercept = np.average(rows.target, axis=0, weights=rows.weights)
    for at, target in enumerate(rows.target.T):
        chosen = _choose(settings, rows.inputs, target, rows.weights)
        if chosen.any():
            one = Rows(rows.inputs[:, chosen], target[:, None], rows.weights, rows.seed)
            found = linear.fit(LinearRegression(), one)
            coef[at, chosen], intercept[at] = found.coef[0], found.intercept[0]
    return Linear(coef, intercept)


def _check(columns: int) -> None:
    if columns > MOST_COLUMNS:
        message = f"stepwise regression takes up to {MOST_COLUMNS:,} columns, not {columns:,}"
        raise errors.invalid("model", f"{message}: take lasso")


def _choose(
    settings: StepwiseRegressionHyperparameters,
    inputs: NDArray[np.float64],
    target: NDArray[np.float64],
    weights: Weights,
) -> NDArray[np.bool_]:
    """The columns of one target, (columns,): each step is the one that lowers the criterion most.

    The criterion is n log(mean squared error) + penalty * columns: Akaike's with 2, Schwarz's with
    log n.
    """
    rows, columns = inputs.shape
    penalty = 2.0 if settings.criterion == "aic" else np.log(rows)
    # From about as many columns as rows on, the criterion falls without end.
    most = min(settings.max_features or rows // 2, columns, rows - 2)
    moments = _Moments(inputs, target, weights)
    if settings.direction == "backward":
        moments.choose(most)
    while True:
        chosen = moments.chosen
        now = rows * np.log(moments.loss) + penalty * chosen.sum()
        criteria = rows * np.log(moments.losses()) + penalty * (chosen.sum() + 1 - 2 * chosen)
        if settings.direction == "backward" or chosen.sum() >= most:
            criteria[~chosen] = np.inf
        if settings.direction == "forward":
            criteria[chosen] = np.inf
        best = int(np.argmin(criteria))
        if not criteria[best] < now - 1e-9:
            return chosen
        moments.flip(best)


class _Moments:
    """Second moments of columns and target, swept by the chosen columns (Goodnight 1979).

    So adding or dropping a column, and knowing what each would change, needs no new fit.
    """

    def __init__(
        self, inputs: NDArray[np.float64], target: NDArray[np.float64], weights: Weights
    ) -> None:
        joined = np.column_stack([inputs, target])
        joined -= np.average(joined, axis=0, weights=weights)
        shares = np.full(len(joined), 1.0) if weights is None else weights
        self._matrix = joined.T @ (joined * (shares / shares.sum())[:, None])
        variances = self._matrix.diagonal()
        self._least = TOLERANCE * variances[:-1]
        self._floor = max(SMALLEST_LOSS * variances[-1], np.finfo(float).tiny)
        self.chosen = np.zeros(len(variances) - 1, dtype=bool)

    @property
    def loss(self) -> float:
        """Mean squared error of the chosen columns."""
        return float(max(self._matrix[-1, -1], self._floor))

    def losses(self) -> NDArray[np.float64]:
        """The same after each flip; infinite where a column says what the chosen ones say."""
        pivots = self._matrix.diagonal()[:-1]
        possible = self.chosen | (pivots > self._least)
        gains = np.zeros(len(pivots))
        np.divide(self._matrix[:-1, -1] ** 2, pivots, out=gains, where=possible)
        found = np.maximum(self.loss + np.where(self.chosen, gains, -gains), self._floor)
        return np.where(possible, found, np.inf)

    def choose(self, most: int) -> None:
        """So many columns, if they say something of their own: those that correlate most."""
        for column in np.argsort(self.losses(), kind="stable"):
            if self.chosen.sum() < most and self._matrix[column, column] > self._least[column]:
                self.flip(column)

    def flip(self, column: int) -> None:
        """Choose a column, or drop a chosen one: sweeping twice changes nothing."""
        matrix, pivot = self._matrix, self._matrix[column, column]
        row, factors = matrix[column] / pivot, matrix[:, column].copy()
        matrix -= np.outer(factors, row)
        matrix[column], matrix[:, column] = row, -factors / pivot
        matrix[column, column] = 1 / pivot
        self.chosen[column] ^= True


MODEL = linear.family(learn)
