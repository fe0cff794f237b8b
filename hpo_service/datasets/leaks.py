"""Columns that tell the target of every row all by themselves: often known only afterwards.

Cheap, so that a wide file is checked in seconds: most columns are cleared by their first rows.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from hpo_service.datasets.columns import Column, Numeric
from hpo_service.datasets.csv_file import quoted

if TYPE_CHECKING:
    from numpy.typing import NDArray

# With fewer rows, or rows of a class, chance makes such columns.
FEWEST_ROWS, FEWEST_OF_A_CLASS = 30, 5
FIRST_ROWS = 2_000
# Each value of a column that has few must occur so often on average.
ROWS_PER_VALUE = 5
CORRELATION = 0.9999


def warnings(columns: list[Column], target: NDArray[Any], classes: int) -> list[str]:
    """A sentence for each column that alone tells `target`: class codes, or numbers (rows,)."""
    import numpy as np

    if len(target) < FEWEST_ROWS or target.ndim > 1:
        return []
    if classes and np.bincount(target, minlength=classes).min() < FEWEST_OF_A_CLASS:
        return []
    return [
        f"Column {quoted(column.name)} alone tells the target of every row: may be a leak. "
        "Leave it out with `drop` if it is not known when predictions are made."
        for column in columns
        if _tells(column, target, classes)
    ]


def _tells(column: Column, target: NDArray[Any], classes: int) -> bool:
    values = column.values if isinstance(column, Numeric) else column.codes
    if _decides(values, target):
        return True
    if not isinstance(column, Numeric):
        return False
    rule = partial(_separates, classes=classes) if classes else _correlates
    return rule(values[:FIRST_ROWS], target[:FIRST_ROWS]) and rule(values, target)


def _decides(values: NDArray[Any], target: NDArray[Any]) -> bool:
    """Whether rows of one value have one target, and values are few."""
    import numpy as np

    if len(np.unique(values[:FIRST_ROWS])) * ROWS_PER_VALUE > min(len(values), FIRST_ROWS):
        return False
    distinct, first, codes = np.unique(values, return_index=True, return_inverse=True)
    few = len(distinct) * ROWS_PER_VALUE <= len(values)
    return bool(few and (target[first][codes] == target).all())


def _separates(values: NDArray[Any], target: NDArray[Any], classes: int) -> bool:
    """Whether thresholds on the values separate all classes; missing ones stand at the end."""
    import numpy as np

    order = np.lexsort((target, values))
    ends = np.flatnonzero(np.diff(target[order]))
    if len(ends) > classes - 1:
        return False
    # Equal values of two classes lie beside one another and would pass as a threshold.
    return not (values[order][ends] == values[order][ends + 1]).any()


def _correlates(values: NDArray[Any], target: NDArray[Any]) -> bool:
    """Whether values and target, or their ranks, are one line; rows without a value left aside."""
    import numpy as np
    from scipy.stats import rankdata

    known = ~np.isnan(values)
    x, y = values[known].astype(np.float64), target[known]
    if len(x) < FEWEST_ROWS or 2 * len(x) < len(values) or np.ptp(x) == 0 or np.ptp(y) == 0:
        return False
    pairs = ((x, y), (rankdata(x), rankdata(y)))
    return any(abs(float(np.corrcoef(a, b)[0, 1])) > CORRELATION for a, b in pairs)
