"""What predicts without having learnt much, scored on the folds of a study."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import r2_score

from benchmarks import rows
from hpo_service import protocol
from workers.data.dataset import Dataset
from workers.data.folds import splits

Rows = NDArray[np.intp]
Score = Callable[[Dataset, Rows, Rows], float]


def score(
    dataset: str, metric: str, validation: protocol.Validation, seed: int
) -> tuple[str, float]:
    """Name and mean value over the folds of the study with this seed."""
    data = rows.read(dataset)
    name, fold = _predictor(data, metric)
    found = [fold(data, train, valid) for train, valid in splits(data, validation, seed)]
    return name, statistics.fmean(found)


def bigram(dataset: str, validation: protocol.Validation, seed: int) -> float:
    """Perplexity of a table of which symbol follows which, over the folds of this seed."""
    data = rows.read(dataset)
    found = [_bigram(data, train, valid) for train, valid in splits(data, validation, seed)]
    return statistics.fmean(found)


def _predictor(data: Dataset, metric: str) -> tuple[str, Score]:
    if metric == "accuracy" and not data.schema.per_step:
        return "the most frequent class", _most_frequent
    if metric == "perplexity" and data.schema.per_step:
        return "how frequent each symbol is", _unigram
    if metric == "r2":
        return ("the last value", _last) if data.schema.ordered else ("the mean", _mean)
    raise ValueError(f"nothing trivial is known for {metric} of this data")


def _most_frequent(data: Dataset, train: Rows, valid: Rows) -> float:
    fitted = DummyClassifier(strategy="most_frequent").fit(train, data.target[train])
    return float(fitted.score(valid, data.target[valid]))


def _mean(data: Dataset, train: Rows, valid: Rows) -> float:
    fitted = DummyRegressor().fit(train, data.target[train])
    return float(r2_score(data.target[valid], fitted.predict(valid)))


def _last(data: Dataset, train: Rows, valid: Rows) -> float:
    return float(r2_score(data.target[valid], data.numeric[valid, -1:]))


def _unigram(data: Dataset, train: Rows, valid: Rows) -> float:
    """Perplexity, each count one higher, so that no symbol is impossible."""
    seen, wanted = (data.target[part][data.target[part] >= 0] for part in (train, valid))
    counts = np.bincount(seen, minlength=len(data.schema.classes)) + 1
    return float(np.exp(-np.log(counts / counts.sum())[wanted].mean()))


def _bigram(data: Dataset, train: Rows, valid: Rows) -> float:
    """Each count one higher, as above."""
    seen, wanted = (_pairs(data, part) for part in (train, valid))
    counts = np.ones((len(data.schema.classes),) * 2)
    np.add.at(counts, seen, 1)
    return float(np.exp(-np.log(counts / counts.sum(1, keepdims=True))[wanted].mean()))


def _pairs(data: Dataset, part: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The symbols of these rows, and the ones that follow them."""
    known = data.target[part] >= 0
    return data.categorical[part][known], data.target[part][known]
