"""Series in long format: a line for each step, told apart by an id, in the order of a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpo_service import errors, protocol
from hpo_service.datasets import body, roles
from hpo_service.datasets.columns import Column, Numeric
from hpo_service.datasets.csv_file import FIELD, quoted
from hpo_service.datasets.sheet import Sheet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def gather(
    sheet: Sheet, name: str, time: str, per_series: dict[str, str], channels: list[str] | None
) -> tuple[Sheet, body.Body]:
    """A row for each id, in the order in which they come first, and its series.

    `per_series`: columns with one value for each id, by the field of the request that names them;
    the sheet given back has these alone. `channels`: what each step holds; None: all other columns
    of numbers. Raises `InvalidRequest` with the line of what does not fit.
    """
    ids = _ids(sheet.complete("id", name))
    at = _steps(sheet, ids, roles.order(sheet, "time", time), time)
    found, notes = _channels(sheet, {name, time, *per_series.values()}, channels)
    rows, steps = int(ids.max()) + 1, int(at.max()) + 1
    body.check_size(rows, steps * len(found))
    values = _values(found, ids, at)
    one_each = _one_each(sheet, ids, per_series)
    names = [column.name for column in found]
    origin = protocol.Origin(id=name, time=time, channels=names)
    notes += [f"{rows:,} series of up to {steps:,} steps, told apart by {quoted(name)}."]
    return one_each, body.sequences(values, names, origin, notes)


def _ids(column: Column) -> NDArray[np.int64]:
    """A number for each line: which id it has, counted from 0 as they come."""
    import numpy as np

    values: NDArray[Any] = column.values if isinstance(column, Numeric) else column.codes
    _, first, codes = np.unique(values, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    ids: NDArray[np.int64] = rank[codes]
    return ids


def _steps(
    sheet: Sheet, ids: NDArray[np.int64], times: NDArray[np.float64], time: str
) -> NDArray[np.int64]:
    """Which step of its series each line is."""
    import numpy as np

    order = np.lexsort((times, ids))
    new = np.diff(ids[order], prepend=-1) > 0
    again = ~new & (np.diff(times[order], prepend=np.nan) == 0)
    twice = np.zeros(len(ids), bool)
    twice[order] = again
    sheet.refuse("time", sheet.column("time", time), twice, "has a time that its series had before")
    starts = np.flatnonzero(new)
    steps = np.empty(len(ids), np.int64)
    steps[order] = np.arange(len(ids)) - np.repeat(starts, np.diff([*starts, len(ids)]))
    return steps


def _channels(
    sheet: Sheet, used: set[str], wanted: list[str] | None
) -> tuple[list[Numeric], list[str]]:
    columns = (
        [column for name, column in sheet.columns.items() if name not in used]
        if wanted is None
        else [sheet.column(FIELD, name) for name in wanted]
    )
    found = [column for column in columns if isinstance(column, Numeric)]
    texts = [column.name for column in columns if not isinstance(column, Numeric)]
    if wanted and texts:
        raise errors.invalid(FIELD, f"column {quoted(texts[0])} holds texts: numbers are needed")
    empty = [column.name for column in found if column.missing().all()]
    if wanted is None:
        found = [column for column in found if column.name not in empty]
    if not found:
        raise errors.invalid(FIELD, "no column of numbers is left to be a channel of the series")
    notes = [
        f"Column {quoted(name)} holds texts, no steps of a series: left out." for name in texts
    ]
    if wanted is None:
        notes += [f"Column {quoted(name)} has no value in any row: left out." for name in empty]
    return found, notes


def _values(
    found: list[Numeric], ids: NDArray[np.int64], at: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(ids, steps, channels), NaN after the end of a series."""
    import numpy as np

    values = np.full((int(ids.max()) + 1, int(at.max()) + 1, len(found)), np.nan)
    for channel, column in enumerate(found):
        values[ids, at, channel] = column.values
    return values


def _one_each(sheet: Sheet, ids: NDArray[np.int64], per_series: dict[str, str]) -> Sheet:
    """A row for each id: the value that all its lines have, where they have one."""
    import numpy as np

    firsts = np.unique(ids, return_index=True)[1]
    picked = {}
    for field, name in per_series.items():
        column = sheet.column(field, name)
        rows = _known(column, ids, firsts)
        values: NDArray[Any] = column.values if isinstance(column, Numeric) else column.codes
        other = ~column.missing() & (values != values[rows][ids])
        sheet.refuse(field, column, other, "has another value than before in its series")
        picked[name] = column.take(rows)
    places = sheet.take(firsts).places
    return Sheet(picked, places)


def _known(column: Column, ids: NDArray[np.int64], firsts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each id the first line with a value; its first line where none has one."""
    import numpy as np

    rows = firsts.copy()
    known = np.flatnonzero(~column.missing())
    which, first = np.unique(ids[known], return_index=True)
    rows[which] = known[first]
    return rows
