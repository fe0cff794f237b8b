"""How a trial's value comes from its folds: as their mean, or from the rows of all together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo_service import catalog

# On fewer rows a number such as R2, or the area under a curve, says next to nothing.
FEW_ROWS = 20


def pooled(
    names: Sequence[str], targets: Sequence[NDArray[Any]], per_repeat: int, weighted: bool
) -> list[str]:
    """Of the metrics named those whose value is taken over all rows of a repeat together (then
    the mean over repeats); that of the others is the mean of the folds, each counted alike.

    `targets` are those of the rows that score each part, class codes as integers. A metric of
    several rows together is pooled where a fold has fewer than `FEW_ROWS` rows, or of class codes
    fewer than two classes. A mean over rows is pooled where folds are of different size, as whole
    groups are, or rows of different weight, so that each row counts what it should. (Folds that
    differ by the row that was left over count as alike, as in scikit-learn's `cross_val_score`.)
    """
    if per_repeat == 1:
        return []
    sizes = [len(target) for target in targets]
    small = min(sizes) < FEW_ROWS or any(map(_of_one_class, targets))
    uneven = weighted or max(sizes) - min(sizes) > 1
    needed = {"set": small, "rows": uneven, "network": False}
    return [name for name in names if needed[catalog.METRICS[name].over]]


def _of_one_class(target: NDArray[Any]) -> bool:
    """Whether the codes are all of one class; -1 is none."""
    if not np.issubdtype(target.dtype, np.integer):
        return False
    return len(np.unique(target[target >= 0])) < 2
