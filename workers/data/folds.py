"""The folds: scikit-learn's own, so that anyone can reproduce them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import (
    KFold,
    ShuffleSplit,
    StratifiedKFold,
    StratifiedShuffleSplit,
    TimeSeriesSplit,
)

from hpo_service import protocol
from workers.data.dataset import Dataset

Rows = NDArray[np.intp]

# Of the training rows of a fold, where early stopping must not see the rows that score it.
INNER_SHARE = 0.15


def splits(
    dataset: Dataset, validation: protocol.Validation, study_seed: int
) -> Iterator[tuple[Rows, Rows]]:
    """(training rows, validation rows) in the order (repeat, fold), rows in stored order.

    Rows in the order of time have one repeat, and nothing to shuffle.
    """
    if dataset.schema.ordered:
        yield from TimeSeriesSplit(validation.folds).split(dataset.target)
        return
    classes = _one_class_a_row(dataset)
    stratify = classes if validation.stratify is None else validation.stratify and classes
    splitter = StratifiedKFold if stratify else KFold
    for repeat in range(validation.repeats):
        folds = splitter(validation.folds, shuffle=True, random_state=study_seed + repeat)
        yield from folds.split(dataset.target, dataset.target if stratify else None)


def inner_split(dataset: Dataset, rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """(rows to train on, rows to stop early by), both in stored order, out of training rows.

    The later rows are in time order the last ones; else drawn, by class where every class has two
    rows and both sides have room for one of each.
    """
    count = len(rows)
    inner = int(np.ceil(INNER_SHARE * count))
    if dataset.schema.ordered:
        return rows[: count - inner], rows[count - inner :]
    target = dataset.target[rows]
    stratify = _one_class_a_row(dataset) and _can_be_stratified(target, inner)
    splitter = StratifiedShuffleSplit if stratify else ShuffleSplit
    draw = splitter(n_splits=1, test_size=inner, random_state=seed)
    kept, left = next(draw.split(target, target if stratify else None))
    return np.sort(rows[kept]), np.sort(rows[left])


def _one_class_a_row(dataset: Dataset) -> bool:
    return dataset.schema.task == "classification" and not dataset.schema.per_step


def _can_be_stratified(target: NDArray[np.generic], inner: int) -> bool:
    sizes = np.unique(target, return_counts=True)[1]
    return int(sizes.min()) >= 2 and len(sizes) <= min(inner, len(target) - inner)
