"""The folds: scikit-learn's own, so that anyone can reproduce them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    LeaveOneGroupOut,
    LeaveOneOut,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
    TimeSeriesSplit,
)

from hpo_service import errors, protocol
from workers.data.dataset import Dataset

Rows = NDArray[np.intp]


class Splitter(Protocol):
    """A splitter of scikit-learn."""

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Rows, Rows]]:
        """Indices of the rows to train on and to score, for each fold."""


# Fewer training rows have no spread to scale by.
FEWEST = 2
# Of the training rows of a fold, where early stopping must not see the rows that score it.
INNER_SHARE = 0.15


def splits(
    dataset: Dataset, validation: protocol.Validation, study_seed: int
) -> Iterator[tuple[Rows, Rows]]:
    """(training rows, validation rows) in the order (repeat, fold), rows in stored order.

    `protocol.Validation` says which splitter. Raises `InvalidRequest` where one of them leaves a
    side empty.
    """
    stratify = _stratified(dataset, validation)
    for repeat in range(validation.repeats):
        splitter = _splitter(dataset, validation, stratify, study_seed + repeat)
        target = dataset.target if stratify else None
        for train, valid in splitter.split(dataset.target, target, dataset.group):
            if not len(train) or not len(valid):
                raise errors.invalid(
                    "objective.validation", "a fold is without rows: take fewer folds"
                )
            yield np.sort(train), np.sort(valid)


def shortened(dataset: Dataset, train: Rows, share: float, seed: Sequence[int]) -> Rows:
    """A share of a fold's training rows, in stored order; of two shares the larger has all rows of
    the smaller.

    In time order the latest rows; whole groups where there are some, until they hold the share;
    else drawn by `seed`. Classes keep their shares, each at least a row. Raises `InvalidRequest`
    where that cannot be.
    """
    if share == 1:
        return train
    wanted = round(share * len(train))
    if dataset.schema.ordered:
        kept = train[len(train) - wanted :]
    else:
        unit = np.arange(len(train)) if dataset.group is None else dataset.group[train]
        kept = train[_spread(dataset, train, unit, wanted, np.random.default_rng(seed))]
    classes = _classes(dataset, train)
    if len(kept) < FEWEST or len(_classes(dataset, kept)) < len(classes):
        needed = max(FEWEST, len(classes))
        raise errors.invalid(
            "params.train_share",
            f"{share:g} of {len(train)} training rows keeps {len(kept)}, too few to train on: at "
            f"least {needed}, one of each class, are needed: take a larger share",
        )
    return kept


def _spread(
    dataset: Dataset, train: Rows, unit: NDArray[Any], wanted: int, rng: np.random.Generator
) -> Rows:
    """The places of at least so many rows, sorted: of an order of all units, in which those of each
    class are spread evenly, the first ones.
    """
    first, of_row, sizes = np.unique(
        unit, return_index=True, return_inverse=True, return_counts=True
    )[1:]
    place, drawn = np.empty(len(first)), rng.permutation(len(first))
    stratum = np.zeros(len(first), np.int64)
    if _one_class_a_row(dataset):
        stratum = dataset.target[train][first].astype(np.int64)
    for each in np.unique(stratum):
        members = drawn[stratum[drawn] == each]
        place[members] = np.arange(len(members)) / len(members)
    order = drawn[np.argsort(place[drawn], kind="stable")]
    taken = np.zeros(len(first), bool)
    taken[order[: np.searchsorted(sizes[order].cumsum(), wanted) + (wanted > 0)]] = True
    return np.flatnonzero(taken[of_row])


def _classes(dataset: Dataset, rows: Rows) -> NDArray[Any]:
    return np.unique(dataset.target[rows]) if _one_class_a_row(dataset) else np.empty(0)


def per_repeat(dataset: Dataset, validation: protocol.Validation) -> int:
    """How many of the splits make one repeat."""
    if validation.method == "hold_out":
        return 1
    if validation.method != "leave_one_out":
        return validation.folds
    return dataset.rows if dataset.group is None else len(np.unique(dataset.group))


def _splitter(
    dataset: Dataset, validation: protocol.Validation, stratify: bool, seed: int
) -> Splitter:
    grouped, folds = dataset.group is not None, validation.folds
    made: Splitter
    if dataset.schema.ordered:
        made = TimeSeriesSplit(folds)
    elif validation.method == "leave_one_out":
        made = LeaveOneGroupOut() if grouped else LeaveOneOut()
    elif validation.method == "hold_out":
        made = _draw(grouped, stratify, validation.share, seed)
    elif grouped:
        drawn = StratifiedGroupKFold if stratify else GroupKFold
        made = drawn(folds, shuffle=True, random_state=seed)
    else:
        drawn = StratifiedKFold if stratify else KFold
        made = drawn(folds, shuffle=True, random_state=seed)
    return made


def _draw(grouped: bool, stratify: bool, size: float, seed: int) -> Splitter:
    """One split; `size`: a share of what scores, or a number of it."""
    drawn = StratifiedShuffleSplit if stratify else ShuffleSplit
    if grouped:
        drawn = GroupShuffleSplit
    made: Splitter = drawn(n_splits=1, test_size=size, random_state=seed)
    return made


def _stratified(dataset: Dataset, validation: protocol.Validation) -> bool:
    wanted = _one_class_a_row(dataset) and validation.stratify is not False
    return wanted and validation.method in (None, "k_fold", "hold_out")


def inner_split(dataset: Dataset, rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """(rows to train on, rows to stop early by), both in stored order, out of training rows.

    The later rows are in time order the last ones; else drawn: whole groups where there are some,
    by class where every class has two rows and both sides have room for one of each.
    """
    count = len(rows)
    inner = int(np.ceil(INNER_SHARE * count))
    if dataset.schema.ordered:
        return rows[: count - inner], rows[count - inner :]
    target = dataset.target[rows]
    if dataset.group is not None:
        return _inner_groups(rows, dataset.group[rows], seed)
    stratify = _one_class_a_row(dataset) and _can_be_stratified(target, inner)
    draw = _draw(False, stratify, inner, seed)
    kept, left = next(draw.split(target, target if stratify else None))
    return np.sort(rows[kept]), np.sort(rows[left])


def _inner_groups(rows: Rows, group: NDArray[np.int64], seed: int) -> tuple[Rows, Rows]:
    if len(np.unique(group)) < 2:
        raise errors.invalid(
            "params.early_stopping",
            "a fold trains on one group, which cannot be kept whole and give rows to stop by: "
            "take mean",
        )
    draw = _draw(True, False, INNER_SHARE, seed)
    kept, left = next(draw.split(rows, groups=group))
    return np.sort(rows[kept]), np.sort(rows[left])


def _one_class_a_row(dataset: Dataset) -> bool:
    return dataset.schema.task == "classification" and not dataset.schema.per_step


def _can_be_stratified(target: NDArray[np.generic], inner: int) -> bool:
    sizes = np.unique(target, return_counts=True)[1]
    return int(sizes.min()) >= 2 and len(sizes) <= min(inner, len(target) - inner)
