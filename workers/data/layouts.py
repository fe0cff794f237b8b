"""How a row becomes inputs: what each layout learns from training rows, and how it is applied.

"columns" knows nothing of places: a table with categories one-hot; images and sequences as a table
of their numbers; texts as counts of their symbols. "structured" keeps images, sequences and texts
in their form for networks that use it. The width of either depends on the schema alone, so that
all splits of a data set fit into one tensor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from hpo_service import protocol
from workers.data.dataset import Codes, Dataset, Floats
from workers.data.folds import Rows

Layout = Literal["columns", "structured"]
Block = tuple[int, int]
Arrays = dict[str, NDArray[Any]]

# Codes of a structured text: a symbol of the data set is its own code + SPECIAL.
PADDING, UNKNOWN, SPECIAL = 0, 1, 2


class Encoder(Protocol):
    """What was learned from training rows."""

    @classmethod
    def fit(cls, dataset: Dataset, rows: Rows) -> Self:
        """Learn from these rows alone."""

    @classmethod
    def restore(cls, schema: protocol.DatasetSchema, arrays: Arrays) -> Self:
        """What gave these `arrays`; KeyError where one is missing."""

    def inputs(self, dataset: Dataset, rows: Rows) -> Floats:
        """Inputs of a model, (rows, width)."""

    def arrays(self) -> Arrays:
        """All that `inputs` needs beside the schema, by name."""

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Which columns of the inputs are one category one-hot: (first, last + 1) of each."""
        return ()


@dataclass(frozen=True)
class Columns(Encoder):
    """A flat table: numeric columns first, then a column for each category.

    Numbers: the median of the known values where missing, then mean 0 and standard deviation 1 (a
    constant column becomes 0). A category that no training row has stays 0, like a missing value.
    """

    medians: Floats
    means: Floats
    scales: Floats
    seen: list[NDArray[np.bool_]]

    @classmethod
    def fit(cls, dataset: Dataset, rows: Rows) -> Self:
        sizes, codes = _sizes(dataset.schema), dataset.categorical[rows]
        seen = [np.isin(np.arange(size), codes[:, at]) for at, size in enumerate(sizes)]
        return cls(*_fit_numeric(dataset.numeric[rows]), seen)

    @classmethod
    def restore(cls, schema: protocol.DatasetSchema, arrays: Arrays) -> Self:
        ends = np.cumsum(_sizes(schema))
        seen = np.split(arrays["seen"], ends[:-1]) if len(ends) else []
        return cls(arrays["medians"], arrays["means"], arrays["scales"], seen)

    def inputs(self, dataset: Dataset, rows: Rows) -> Floats:
        numeric, codes = dataset.numeric[rows], dataset.categorical[rows]
        scaled = (np.where(np.isnan(numeric), self.medians, numeric) - self.means) / self.scales
        return np.hstack([scaled, *(_one_hot(codes[:, at], s) for at, s in enumerate(self.seen))])

    def arrays(self) -> Arrays:
        seen = np.concatenate(self.seen) if self.seen else np.empty(0, dtype=np.bool_)
        return {"medians": self.medians, "means": self.means, "scales": self.scales, "seen": seen}

    @property
    def blocks(self) -> tuple[Block, ...]:
        ends = len(self.means) + np.cumsum([0, *map(len, self.seen)])
        return tuple(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))


@dataclass(frozen=True)
class Counts(Encoder):
    """A text as a table: how often each symbol occurs, scaled like a column of numbers.

    A symbol that no training row has counts 0 everywhere.
    """

    means: Floats
    scales: Floats
    seen: NDArray[np.bool_]

    @classmethod
    def fit(cls, dataset: Dataset, rows: Rows) -> Self:
        counts = _counts(dataset, rows)
        scaler = StandardScaler().fit(counts)
        return cls(scaler.mean_, scaler.scale_, counts.max(axis=0) > 0)

    @classmethod
    def restore(cls, schema: protocol.DatasetSchema, arrays: Arrays) -> Self:
        return cls(arrays["means"], arrays["scales"], arrays["seen"])

    def inputs(self, dataset: Dataset, rows: Rows) -> Floats:
        scaled: Floats = (_counts(dataset, rows) - self.means) / self.scales
        return scaled * self.seen

    def arrays(self) -> Arrays:
        return {"means": self.means, "scales": self.scales, "seen": self.seen}


@dataclass(frozen=True)
class Channels(Encoder):
    """Images and sequences: each channel with mean 0 and standard deviation 1 over all its places.

    What is missing becomes 0, the mean, and so do the steps after the end of a sequence. A
    sequence has one more column, the last: its length in steps, at least 1.
    """

    means: Floats
    scales: Floats

    @classmethod
    def fit(cls, dataset: Dataset, rows: Rows) -> Self:
        by_channel = np.moveaxis(_places(dataset, rows), 2, 0)
        fitted = [_mean_and_scale(values[~np.isnan(values)]) for values in by_channel]
        means, scales = np.array(fitted).T
        return cls(means, scales)

    @classmethod
    def restore(cls, schema: protocol.DatasetSchema, arrays: Arrays) -> Self:
        return cls(arrays["means"], arrays["scales"])

    def inputs(self, dataset: Dataset, rows: Rows) -> Floats:
        places = _places(dataset, rows)
        scaled = np.nan_to_num((places - self.means) / self.scales, nan=0.0)
        if dataset.schema.kind == "image":
            # Stored channel by channel.
            scaled = scaled.transpose(0, 2, 1)
        # No -1: of no rows at all numpy could not tell it.
        flat: Floats = scaled.reshape(len(rows), math.prod(scaled.shape[1:]))
        return np.hstack([flat, *_lengths(dataset, places)])

    def arrays(self) -> Arrays:
        return {"means": self.means, "scales": self.scales}


@dataclass(frozen=True)
class Symbols(Encoder):
    """Texts: a code for each step, (rows, steps); `PADDING` after the end, `UNKNOWN` for a symbol
    that no training row has, `SPECIAL` + the data set's code for the others.
    """

    seen: NDArray[np.bool_]

    @classmethod
    def fit(cls, dataset: Dataset, rows: Rows) -> Self:
        known = np.arange(len(dataset.schema.symbols))
        return cls(np.isin(known, dataset.categorical[rows]))

    @classmethod
    def restore(cls, schema: protocol.DatasetSchema, arrays: Arrays) -> Self:
        return cls(arrays["seen"])

    def inputs(self, dataset: Dataset, rows: Rows) -> Floats:
        codes = np.where(self.seen, np.arange(len(self.seen)) + SPECIAL, UNKNOWN)
        # The last entry serves code -1.
        coded: Floats = np.append(codes, PADDING)[dataset.categorical[rows]].astype(np.float64)
        return coded

    def arrays(self) -> Arrays:
        return {"seen": self.seen}


STRUCTURED: dict[protocol.DataKind, type[Encoder]] = {
    "table": Columns,
    "image": Channels,
    "sequence": Channels,
    "symbols": Symbols,
}


def fit(dataset: Dataset, rows: Rows, layout: Layout) -> Encoder:
    """Learn a layout from these rows alone."""
    return _encoder(dataset.schema, layout).fit(dataset, rows)


def restore(schema: protocol.DatasetSchema, layout: Layout, arrays: Arrays) -> Encoder:
    """What was learned, from its arrays."""
    return _encoder(schema, layout).restore(schema, arrays)


def _encoder(schema: protocol.DatasetSchema, layout: Layout) -> type[Encoder]:
    if layout == "structured":
        return STRUCTURED[schema.kind]
    return Counts if schema.kind == "symbols" else Columns


def _sizes(schema: protocol.DatasetSchema) -> list[int]:
    """How many categories each categorical column has."""
    return [len(each.categories) for each in schema.columns if each.kind == "categorical"]


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


def _one_hot(codes: Codes, seen: NDArray[np.bool_]) -> Floats:
    hot: Floats = (codes[:, None] == np.arange(len(seen))).astype(np.float64)
    return hot * seen


def _counts(dataset: Dataset, rows: Rows) -> Floats:
    """How often each symbol occurs in each row, (rows, symbols)."""
    codes, symbols = dataset.categorical[rows], len(dataset.schema.symbols)
    counts = np.zeros((len(rows), symbols))
    row, step = np.nonzero(codes >= 0)
    np.add.at(counts, (row, codes[row, step]), 1)
    return counts


def _places(dataset: Dataset, rows: Rows) -> Floats:
    """Pixels or steps, (rows, places, channels)."""
    numeric, shape = dataset.numeric[rows], dataset.schema.shape or []
    if dataset.schema.kind == "image":
        return numeric.reshape(len(rows), shape[0], math.prod(shape[1:])).transpose(0, 2, 1)
    return numeric.reshape(len(rows), *shape)


def _lengths(dataset: Dataset, places: Floats) -> list[Floats]:
    """Steps of each sequence up to the last that has a number, (rows, 1); none for images."""
    if dataset.schema.kind == "image":
        return []
    real = ~np.isnan(places).all(2)
    steps = np.arange(1, places.shape[1] + 1)
    return [(real * steps).max(1, initial=1, keepdims=True).astype(np.float64)]


def _mean_and_scale(known: Floats) -> tuple[float, float]:
    scaler = StandardScaler().fit(known[:, None] if len(known) else np.zeros((1, 1)))
    return float(scaler.mean_[0]), float(scaler.scale_[0])
