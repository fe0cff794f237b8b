"""Preprocessing, fitted on training rows alone.

Numeric columns: median of the known values where missing, then mean 0 and standard deviation 1
(a constant column becomes 0). Categorical columns: one column for each category of the schema, so
that the width does not depend on the split; a category that the training rows do not have stays
0, like a missing value. Regression targets: mean 0, standard deviation 1, for networks only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from workers.data.dataset import Codes, Dataset, Floats
from workers.data.folds import Rows


@dataclass(frozen=True)
class Preprocessing:
    """What was learned from the training rows; `seen` marks their categories, column by column."""

    medians: Floats
    means: Floats
    scales: Floats
    seen: list[NDArray[np.bool_]]
    target_mean: Floats
    target_scale: Floats

    @classmethod
    def fit(cls, dataset: Dataset, rows: Rows) -> Self:
        medians, means, scales = _fit_numeric(dataset.numeric[rows])
        target_mean, target_scale = _fit_target(dataset, rows)
        sizes = [len(c.categories) for c in dataset.schema.columns if c.kind == "categorical"]
        codes = dataset.categorical[rows]
        seen = [np.isin(np.arange(size), codes[:, at]) for at, size in enumerate(sizes)]
        return cls(medians, means, scales, seen, target_mean, target_scale)

    def inputs(self, dataset: Dataset, rows: Rows) -> Floats:
        """Inputs of a model, (rows, width): numeric columns first, then the categories."""
        numeric, codes = dataset.numeric[rows], dataset.categorical[rows]
        scaled = (np.where(np.isnan(numeric), self.medians, numeric) - self.means) / self.scales
        return np.hstack([scaled, *(_one_hot(codes[:, at], s) for at, s in enumerate(self.seen))])

    def scaled_target(self, dataset: Dataset, rows: Rows) -> Codes | Floats:
        """What a network learns: class codes (rows,), or scaled numbers (rows, targets)."""
        if dataset.schema.classes:
            return dataset.target[rows]
        return (dataset.target[rows] - self.target_mean) / self.target_scale

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All that `inputs` needs, to be stored with a model."""
        seen = np.concatenate(self.seen) if self.seen else np.empty(0, dtype=np.bool_)
        return {
            "medians": self.medians,
            "means": self.means,
            "scales": self.scales,
            "seen": seen,
            "target_mean": self.target_mean,
            "target_scale": self.target_scale,
        }


def _fit_numeric(numeric: Floats) -> tuple[Floats, Floats, Floats]:
    if numeric.shape[1] == 0:
        return np.empty(0), np.empty(0), np.empty(0)
    medians = np.array([_median(column) for column in numeric.T])
    scaler = StandardScaler().fit(np.where(np.isnan(numeric), medians, numeric))
    return medians, scaler.mean_, scaler.scale_


def _median(column: Floats) -> float:
    """Of the known values; a column without any is filled with 0 and so carries nothing."""
    known = column[~np.isnan(column)]
    return float(np.median(known)) if len(known) else 0.0


def _fit_target(dataset: Dataset, rows: Rows) -> tuple[Floats, Floats]:
    if dataset.schema.classes:
        return np.zeros(1), np.ones(1)
    scaler = StandardScaler().fit(dataset.target[rows])
    return scaler.mean_, scaler.scale_


def _one_hot(codes: Codes, seen: NDArray[np.bool_]) -> Floats:
    hot: Floats = (codes[:, None] == np.arange(len(seen))).astype(np.float64)
    return hot * seen
