"""The outer folds of a nested cross-validation: each is held out by a study of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpo_service import errors, protocol
from hpo_service.datasets import split
from hpo_service.datasets.table import Table
from hpo_service.datasets.validating import has_strata

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.int64]

FOLD = "objective.outer.fold"
FOLDS = "objective.outer.folds"
SEEDS = 2**32  # of scikit-learn


def parts(table: Table, outer: protocol.Outer) -> tuple[Rows, Rows]:
    """(rows to search on, rows to hold out), both sorted.

    The table's content and the number of folds alone decide, so that the parts held out by the
    studies of a nested cross-validation never overlap, and are all rows together. The folds are
    scikit-learn's: `StratifiedKFold` or `KFold`, with groups `StratifiedGroupKFold` or
    `GroupKFold`, shuffled; exact copies of a row go to the same fold, with the first of them. In
    the order of time `TimeSeriesSplit`, where earlier rows are searched on, later ones are in no
    part, and the first rows are never held out. Raises `InvalidRequest` where a fold is too small.
    """
    import numpy as np
    from sklearn.model_selection import TimeSeriesSplit

    if outer.fold >= outer.folds:
        raise errors.invalid(FOLD, f"{outer.folds} outer folds are 0 to {outer.folds - 1}")
    _check_rows(table, outer.folds)
    rows = np.arange(table.schema.rows)
    if table.schema.ordered:
        kept, later = list(TimeSeriesSplit(outer.folds).split(rows))[outer.fold]
        return kept, later
    fold = _fold_of_each(table, outer.folds)
    held = np.flatnonzero(fold == outer.fold)
    if len(held) < 2:
        raise errors.invalid(
            FOLDS, f"fold {outer.fold} of {outer.folds} would be without rows: take fewer folds"
        )
    return np.flatnonzero(fold != outer.fold), held


def _check_rows(table: Table, folds: int) -> None:
    """Two rows for each fold are the fewest that every metric can be taken of."""
    needed = 2 * (folds + table.schema.ordered)
    if table.schema.rows < needed:
        raise errors.invalid(
            FOLDS,
            f"{folds} outer folds need at least {needed} rows, but the data has "
            f"{table.schema.rows}: take fewer",
        )


def _fold_of_each(table: Table, folds: int) -> Rows:
    """The number of each row's fold."""
    import numpy as np
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    units = split.units(table)
    first, of_unit = np.unique(units, return_index=True, return_inverse=True)[1:]
    stratify, seed = has_strata(table.schema), int(table.sha256, 16) % SEEDS
    # Copies move with their first row; whole groups are dealt out by all of their rows.
    dealt = np.sort(first) if table.group is None else np.arange(len(units))
    _check_units(table, folds, len(first), dealt)
    if table.group is None:
        kind = StratifiedKFold if stratify else KFold
    else:
        kind = StratifiedGroupKFold if stratify else GroupKFold
    made = kind(folds, shuffle=True, random_state=seed)
    groups = None if table.group is None else units
    fold = np.empty(len(units), np.int64)
    for number, (_, held) in enumerate(made.split(dealt, table.target[dealt], groups)):
        fold[dealt[held]] = number
    return fold[first][of_unit]


def _check_units(table: Table, folds: int, units: int, dealt: Rows) -> None:
    import numpy as np

    if units < folds:
        things = "different rows" if table.group is None else "groups"
        raise errors.invalid(
            FOLDS,
            f"{folds} outer folds need {folds} {things}, but the data has {units}: take fewer, "
            "or none",
        )
    if not has_strata(table.schema):
        return
    sizes = np.bincount(table.target[dealt], minlength=len(table.schema.classes))
    rarest = int(sizes.argmin())
    if sizes[rarest] < folds:
        raise errors.invalid(
            FOLDS,
            f"{folds} outer folds need {folds} different rows of each class, but class "
            f"{table.schema.classes[rarest]!r} has {sizes[rarest]}: take fewer, or none",
        )
