"""What is to be predicted: classes or a number.

Text is always classes. Numbers are classes where there are exactly two different ones, or at most
20 different whole ones with at least 5 rows for each on average; otherwise a number is predicted.
The caller's word overrides the rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpo_service import errors, protocol
from hpo_service.datasets.columns import Column, Numeric, Textual, label
from hpo_service.datasets.csv_file import quoted
from hpo_service.datasets.sheet import Places

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FIELD = "target"
MAX_NUMERIC_CLASSES = 20
ROWS_PER_NUMERIC_CLASS = 5
MAX_CLASSES = 1_000


@dataclass(frozen=True, eq=False)
class Target:
    """`values`: int64 class codes or float64 numbers, (rows,); `note` says how it was read."""

    task: protocol.Task
    values: NDArray[Any]
    classes: list[str]
    note: str


def infer(column: Column, places: Places, task: protocol.Task | None) -> Target:
    """Read a column without missing values as the target; raises `InvalidRequest`.

    `task` is what the caller says it is, if anything.
    """
    if isinstance(column, Textual):
        if task == "regression":
            raise _not_a_number(column, places)
        return _from_texts(column, places)
    return _from_numbers(column, task)


def _from_texts(column: Textual, places: Places) -> Target:
    import numpy as np

    rows, classes = len(column.codes), column.texts
    if len(classes) > MAX_NUMERIC_CLASSES and column.first_text_that_is_no_number():
        raise _not_a_number(column, places)
    _check_classes(column.name, classes, rows)
    note = f"Target {quoted(column.name)}: {len(classes)} different texts, read as classes."
    return Target("classification", column.codes.astype(np.int64), classes, note)


def _from_numbers(column: Numeric, task: protocol.Task | None) -> Target:
    import numpy as np

    distinct, codes = np.unique(column.values, return_inverse=True)
    classes = [label(value) for value in distinct.tolist()]
    if len(classes) == 1:
        raise _one_class(column.name, classes[0], len(codes))
    said = "read as {}" + (", as asked" if task else ": say `task` if it should be otherwise")
    if (task or _guess(distinct, len(codes))) == "classification":
        _check_classes(column.name, classes, len(codes))
        note = f"{len(classes)} different numbers, {said.format('classes')}."
        return Target("classification", codes.astype(np.int64), classes, _note(column, note))
    note = f"{len(classes):,} different numbers, {said.format('a number (regression)')}."
    return Target("regression", column.values, [], _note(column, note))


def _guess(distinct: NDArray[np.float64], rows: int) -> protocol.Task:
    whole = bool((distinct == distinct.round()).all())
    few = len(distinct) <= min(MAX_NUMERIC_CLASSES, rows / ROWS_PER_NUMERIC_CLASS)
    return "classification" if len(distinct) == 2 or (whole and few) else "regression"


def _note(column: Numeric, note: str) -> str:
    return f"Target {quoted(column.name)}: {note}"


def _check_classes(name: str, classes: list[str], rows: int) -> None:
    if len(classes) == 1:
        raise _one_class(name, classes[0], rows)
    if len(classes) > min(MAX_CLASSES, max(2, rows / 2)):
        raise errors.invalid(
            FIELD,
            f"column {quoted(name)} has {len(classes):,} different values in {rows:,} rows "
            f"(like {quoted(classes[0])}): too many to be classes",
        )


def _one_class(name: str, value: str, rows: int) -> errors.InvalidRequest:
    return errors.invalid(
        FIELD,
        f"column {quoted(name)} has the value {quoted(value)} in all {rows:,} rows: "
        "there is nothing to tell apart",
    )


def _not_a_number(column: Textual, places: Places) -> errors.InvalidRequest:
    text, row = column.first_text_that_is_no_number() or (column.texts[0], 0)
    return errors.invalid(
        FIELD,
        f"column {quoted(column.name)} should be a number, but {places.of(row)} "
        f"has {quoted(text)}: correct it, or leave it empty",
    )
