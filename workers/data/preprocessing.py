"""Preprocessing, fitted on training rows alone: inputs in a layout, and the scale of targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from sklearn.preprocessing import StandardScaler

from hpo_service import protocol
from workers.data import layouts
from workers.data.dataset import Codes, Dataset, Floats
from workers.data.folds import Rows
from workers.data.layouts import Arrays, Block, Encoder, Layout


@dataclass(frozen=True)
class Preprocessing:
    """What was learned from the training rows.

    Regression targets: mean 0, standard deviation 1, for networks only; (targets,) each.
    """

    layout: Layout
    encoder: Encoder
    target_mean: Floats
    target_scale: Floats

    @classmethod
    def fit(cls, dataset: Dataset, rows: Rows, layout: Layout = "columns") -> Self:
        return cls(layout, layouts.fit(dataset, rows, layout), *_fit_target(dataset, rows))

    @classmethod
    def restore(cls, schema: protocol.DatasetSchema, layout: Layout, arrays: Arrays) -> Self:
        """What gave these `arrays`; KeyError where one is missing."""
        encoder = layouts.restore(schema, layout, arrays)
        return cls(layout, encoder, arrays["target_mean"], arrays["target_scale"])

    def inputs(self, dataset: Dataset, rows: Rows) -> Floats:
        """Inputs of a model, (rows, width)."""
        return self.encoder.inputs(dataset, rows)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Which columns of the inputs are one category one-hot: (first, last + 1) of each."""
        return self.encoder.blocks

    def scaled_target(self, dataset: Dataset, rows: Rows) -> Codes | Floats:
        """What a network learns: class codes as stored, or scaled numbers (rows, targets)."""
        if dataset.schema.classes:
            return dataset.target[rows]
        return (dataset.target[rows] - self.target_mean) / self.target_scale

    def arrays(self) -> Arrays:
        """All that `inputs` needs beside schema and layout, to be stored with a model."""
        return self.encoder.arrays() | {
            "target_mean": self.target_mean,
            "target_scale": self.target_scale,
        }


def _fit_target(dataset: Dataset, rows: Rows) -> tuple[Floats, Floats]:
    if dataset.schema.classes:
        return np.zeros(1), np.ones(1)
    scaler = StandardScaler().fit(dataset.target[rows])
    return scaler.mean_, scaler.scale_
