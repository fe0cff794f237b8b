"""From an uploaded CSV file to a table."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from hpo_service import errors, protocol
from hpo_service.datasets import columns, csv_file, split, target
from hpo_service.datasets.csv_file import quoted
from hpo_service.datasets.table import Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MENTIONED_COLUMNS = 10


def ingest_csv(
    data: bytes, target_name: str, task: protocol.Task | None = None
) -> tuple[Table, list[str]]:
    """The table of a CSV file, and sentences on what was left out or looks odd.

    Columns keep the file's order. A column is numeric if each of its values is a finite number;
    other columns are categorical. Empty, NA, N/A, NaN, null, none and ? mean missing. Rows
    without a target are left out. `task` overrides the guess on the target (see `target`).
    Raises `InvalidRequest` about `file` (with the line) or `target`.
    """
    import numpy as np

    file = csv_file.scan(data)
    position = _position(file, target_name)
    read = columns.read(file)
    labelled = ~read[position].missing()
    warnings = _without_target(read[position].name, labelled)
    lines = np.asarray(file.lines)[labelled]
    goal = target.infer(read[position].take(labelled), lines, task)
    inputs = [c.take(labelled) for i, c in enumerate(read) if i != position]
    kept, odd = columns.choose(inputs, lines)
    table = _table(kept, read[position].name, goal)
    return table, [goal.note, *warnings, *odd, *_copies(table)]


def _position(file: csv_file.CsvFile, name: str) -> int:
    try:
        return file.columns.index(unicodedata.normalize("NFC", name.strip()))
    except ValueError:
        known = ", ".join(quoted(column) for column in file.columns[:MENTIONED_COLUMNS])
        more = " ..." if len(file.columns) > MENTIONED_COLUMNS else ""
        header = (
            " (the first line must be a header)"
            if any(columns.number(column) is not None for column in file.columns)
            else ""
        )
        raise errors.invalid(
            target.FIELD, f"there is no column {quoted(name)}: choose one of {known}{more}{header}"
        ) from None


def _without_target(name: str, labelled: NDArray[np.bool_]) -> list[str]:
    if not labelled.any():
        raise errors.invalid(target.FIELD, f"column {quoted(name)} has no value in any row")
    missing = int((~labelled).sum())
    return [f"{_rows(missing)} without a target: left out."] if missing else []


def _table(kept: list[columns.Column], name: str, goal: target.Target) -> Table:
    rows = len(goal.values)
    numeric = [column.values for column in kept if isinstance(column, columns.Numeric)]
    codes = [column.codes for column in kept if isinstance(column, columns.Textual)]
    schema = protocol.DatasetSchema(
        task=goal.task,
        rows=rows,
        columns=[_described(column) for column in kept],
        target=[name],
        classes=goal.classes,
    )
    return Table(
        schema=schema,
        numeric=_side_by_side(numeric, rows, "float64"),
        categorical=_side_by_side(codes, rows, "int32"),
        target=goal.values,
    )


def _described(column: columns.Column) -> protocol.Column:
    if isinstance(column, columns.Numeric):
        return protocol.Column(name=column.name, kind="numeric")
    return protocol.Column(name=column.name, kind="categorical", categories=column.texts)


def _side_by_side(arrays: list[NDArray[Any]], rows: int, dtype: str) -> NDArray[Any]:
    import numpy as np

    joined = np.empty((rows, len(arrays)), dtype)
    for position, array in enumerate(arrays):
        joined[:, position] = array
    return joined


def _copies(table: Table) -> list[str]:
    copies = table.schema.rows - 1 - int(split.equal_rows(table).max())
    return [f"{_rows(copies)} equal to another row, target included."] if copies else []


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
