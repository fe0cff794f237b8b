"""A table out of what was read: inputs, a target, and the schema that tells what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpo_service import protocol
from hpo_service.datasets.body import Body
from hpo_service.datasets.columns import Column, Numeric, Textual
from hpo_service.datasets.table import Table
from hpo_service.datasets.target import Target

if TYPE_CHECKING:
    from numpy.typing import NDArray


def of_columns(kept: list[Column], name: str, goal: Target) -> Table:
    """A table of columns; `name` is the target's."""
    rows = len(goal.values)
    numeric = [column.values for column in kept if isinstance(column, Numeric)]
    codes = [column.codes for column in kept if isinstance(column, Textual)]
    return Table(
        schema=protocol.DatasetSchema(
            task=goal.task,
            rows=rows,
            columns=[_described(column) for column in kept],
            target=[name],
            classes=goal.classes,
        ),
        numeric=_side_by_side(numeric, rows, "float64"),
        categorical=_side_by_side(codes, rows, "int32"),
        target=goal.values,
    )


def of_body(body: Body, name: str, goal: Target) -> Table:
    """A table whose rows are series, images or texts."""
    schema = protocol.DatasetSchema(
        task=goal.task,
        rows=len(goal.values),
        columns=[protocol.Column(name=each, kind="numeric") for each in body.names],
        target=[name],
        classes=goal.classes,
        shape=body.shape,
        symbols=body.symbols,
        origin=body.origin,
    )
    return Table(schema, body.numeric, body.categorical, goal.values)


def _described(column: Column) -> protocol.Column:
    if isinstance(column, Numeric):
        return protocol.Column(name=column.name, kind="numeric")
    return protocol.Column(name=column.name, kind="categorical", categories=column.texts)


def _side_by_side(arrays: list[NDArray[Any]], rows: int, dtype: str) -> NDArray[Any]:
    """Columns as one array, (rows, columns)."""
    import numpy as np

    joined = np.empty((rows, len(arrays)), dtype)
    for position, array in enumerate(arrays):
        joined[:, position] = array
    return joined
