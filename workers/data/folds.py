"""The folds: scikit-learn's own, so that anyone can reproduce them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold

from hpo_service import protocol
from workers.data.dataset import Dataset

Rows = NDArray[np.intp]


def splits(
    dataset: Dataset, validation: protocol.Validation, study_seed: int
) -> Iterator[tuple[Rows, Rows]]:
    """(training rows, validation rows) in the order (repeat, fold), rows in stored order."""
    classes = dataset.schema.task == "classification"
    stratify = classes if validation.stratify is None else validation.stratify and classes
    splitter = StratifiedKFold if stratify else KFold
    for repeat in range(validation.repeats):
        folds = splitter(validation.folds, shuffle=True, random_state=study_seed + repeat)
        yield from folds.split(dataset.target, dataset.target if stratify else None)
