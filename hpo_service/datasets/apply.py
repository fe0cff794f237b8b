"""New rows for a model: a file read as the data that the model was trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hpo_service import errors, protocol
from hpo_service.datasets import (
    arrays,
    columns,
    long_format,
    npz_file,
    reading,
    roles,
    text_column,
    windows,
)
from hpo_service.datasets.body import Body
from hpo_service.datasets.columns import Numeric
from hpo_service.datasets.csv_file import FIELD, quoted
from hpo_service.datasets.sheet import MENTIONED_COLUMNS, Sheet, header_hint
from hpo_service.datasets.table import Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Key = tuple[str, list[str]] | None


class Applied(NamedTuple):
    """`notes`: a sentence on each oddity; `key`: a name and a value for each row of the table,
    where its rows are not the file's own.
    """

    table: Table
    notes: list[str]
    key: Key


def apply(data: bytes, schema: protocol.DatasetSchema) -> Applied:
    """The rows of a CSV, Parquet or NPZ file as a table of this schema.

    Columns are found by their names, in any order; others are left aside. A text that is no
    category of its column, or no number where one is wanted, is missing. The target may be there:
    where a row has none that the model knows, its class is -1 and its number NaN. Series in long
    format are one row each, in the order in which their ids come first; of a forecast, every
    window is a row, the last one too, whose next value is not known. Raises `InvalidRequest`
    about `file` where it is no such file or lacks what the model reads.
    """
    if reading.format_of(data) == "npz":
        return _of_arrays(data, schema)
    origin = schema.origin or protocol.Origin()
    sheet = reading.sheet(data, None, _as_text(schema, origin), fewest=1)
    rows = _Rows(sheet, schema)
    if origin.text:
        rows.require([origin.text])
        codes = text_column.read_again(sheet, schema)
        return rows.done(_no_numbers(len(codes)), codes)
    if origin.id and origin.time:
        return _series(rows, origin)
    if origin.channels:
        return _windows(rows, origin)
    names = [column.name for column in schema.columns]
    if schema.kind != "table" and not {*names} & {*sheet.columns}:
        raise errors.invalid(FIELD, f"holds columns only, and the model reads {schema.kind} data")
    rows.require(names)
    return rows.done(rows.numeric(), rows.categorical())


def _as_text(schema: protocol.DatasetSchema, origin: protocol.Origin) -> set[str]:
    """Categories are wanted as they are written, even where all of them look like numbers."""
    named = {column.name for column in schema.columns if column.kind == "categorical"}
    classes = schema.target if schema.classes else []
    return named.union(classes, filter(None, (origin.id, origin.text)))


def _of_arrays(data: bytes, schema: protocol.DatasetSchema) -> Applied:
    """An NPZ file; its target may be named as that of the schema, `y`, or be missing."""
    found = npz_file.read(data)
    kind = schema.kind
    if kind == "symbols":
        raise errors.invalid(FIELD, "an NPZ file holds no texts: send them as CSV")
    target = next((name for name in schema.target if name in found), None)
    split = arrays.split(found, target, {}, kind)
    rows = _Rows(split.sheet, schema)
    if split.body is None:
        rows.require([column.name for column in schema.columns])
        return rows.done(rows.numeric(), rows.categorical())
    return rows.done(*_fitting(rows, split.body))


def _series(rows: _Rows, origin: protocol.Origin) -> Applied:
    assert origin.id is not None
    assert origin.time is not None
    rows.require([origin.id, origin.time, *origin.channels])
    for name in origin.channels:
        rows.make_numeric(name)
    there = rows.schema.target[0] in rows.sheet.columns
    once = {"id": origin.id} | ({"target": rows.schema.target[0]} if there else {})
    made, body = long_format.gather(rows.sheet, origin.id, origin.time, once, origin.channels)
    rows.sheet = made
    return rows.done(*_fitting(rows, body), (origin.id, _written(made.columns[origin.id])))


def _windows(rows: _Rows, origin: protocol.Origin) -> Applied:
    import numpy as np

    shape = rows.schema.shape
    assert shape is not None
    rows.require(origin.channels)
    if origin.time and origin.time in rows.sheet.columns:
        order = roles.order(rows.sheet, "order_by", origin.time).argsort(kind="stable")
        rows.sheet = rows.sheet.take(order)
    steps = shape[0]
    if rows.sheet.rows < steps:
        raise errors.invalid(
            FIELD, f"has {rows.sheet.rows} rows: {steps} before the one to predict are needed"
        )
    channels = [rows.make_numeric(name) for name in origin.channels]
    values = windows.stacked(channels, steps)
    following = np.append(channels[0].values[steps:], math.nan)
    last = rows.sheet.take(np.arange(steps - 1, rows.sheet.rows))
    target = Numeric(rows.schema.target[0], following)
    rows.sheet = Sheet({**last.columns, target.name: target}, last.places)
    if origin.time in last.columns:
        key = f"after {origin.time}", _written(last.columns[origin.time])
    else:
        key = f"after {last.places.word}", [str(place) for place in last.places.numbers]
    return rows.done(values.reshape(len(values), -1), _no_codes(len(values)), key)


def _fitting(rows: _Rows, body: Body) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Inputs of the schema's shape: sequences are cut or go on with NaN, images must be it."""
    import numpy as np

    wanted, values = rows.schema.shape or [], body.values
    if rows.schema.kind == "sequence" and values.shape[2] == wanted[1]:
        steps = wanted[0]
        if values.shape[1] > steps:
            rows.notes.append(f"The model reads {steps:,} steps: what comes after is left out.")
        fitting = np.full((len(values), *wanted), math.nan)
        fitting[:, : values.shape[1]] = values[:, :steps]
        values = fitting
    if [*values.shape[1:]] != wanted:
        raise errors.invalid(
            FIELD,
            f"holds {rows.schema.kind} rows of {_times(body.shape)}, the model reads "
            f"{_times(wanted)}",
        )
    return values.reshape(len(values), -1), _no_codes(len(values))


def _written(column: columns.Column) -> list[str]:
    """Each row's value as a text."""
    found = columns.as_texts(column) if isinstance(column, Numeric) else column
    texts = [*found.texts, ""]  # the last serves code -1
    return [texts[code] for code in found.codes.tolist()]


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


class _Rows:
    """A file's columns as a schema wants them; what was odd about them gathers in `notes`."""

    def __init__(self, sheet: Sheet, schema: protocol.DatasetSchema) -> None:
        self.sheet, self.schema = sheet, schema
        self.notes = _unused(sheet, schema)

    def require(self, names: list[str]) -> None:
        """Refuse a file that lacks one of these columns."""
        missing = [name for name in names if name not in self.sheet.columns]
        if not missing:
            return
        first = ", ".join(quoted(name) for name in missing[:MENTIONED_COLUMNS])
        left = len(missing) - MENTIONED_COLUMNS
        more = f" and {left:,} more" if left > 0 else ""
        thing = "column" if len(missing) == 1 else "columns"
        there = ", ".join(quoted(name) for name in [*self.sheet.columns][:MENTIONED_COLUMNS])
        hint = header_hint(self.sheet.columns)
        raise errors.invalid(
            FIELD, f"lacks the {thing} {first}{more}, which the model reads; it has {there}{hint}"
        )

    def done(
        self,
        numeric: NDArray[np.float64],
        categorical: NDArray[np.int32],
        key: Key = None,
    ) -> Applied:
        """With these inputs."""
        told = {"rows": len(numeric), "weighted": False, "grouped": False, "tested": False}
        table = Table(
            schema=self.schema.model_copy(update=told),
            numeric=numeric,
            categorical=categorical,
            target=self._target(),
        )
        return Applied(table, self.notes, key)

    def numeric(self) -> NDArray[np.float64]:
        """(rows, numeric columns), NaN where missing."""
        import numpy as np

        names = [each.name for each in self.schema.columns if each.kind == "numeric"]
        found = np.empty((self.sheet.rows, len(names)))
        for at, name in enumerate(names):
            found[:, at] = self.make_numeric(name).values
        return found

    def categorical(self) -> NDArray[np.int32]:
        """(rows, categorical columns) of the schema's codes, -1 where missing."""
        import numpy as np

        asked = [each for each in self.schema.columns if each.kind == "categorical"]
        found = np.empty((self.sheet.rows, len(asked)), np.int32)
        for at, column in enumerate(asked):
            found[:, at] = self._codes_of(column.name, column.categories, "a category")
        return found

    def make_numeric(self, name: str) -> Numeric:
        """The column's numbers, NaN where it has none; it is one of numbers from then on."""
        import numpy as np

        found = self.sheet.columns[name]
        if not isinstance(found, Numeric):
            number, odd = columns.parsed(found, self.sheet.decimal_comma)
            self._note_odd(found, odd, "not a number")
            found = number
        infinite = np.isinf(found.values)
        if infinite.any():
            self.notes.append(
                f"Column {quoted(name)}: {_values(int(infinite.sum()))} infinite: missing."
            )
        finite = Numeric(name, np.where(infinite, math.nan, found.values))
        self.sheet.columns[name] = finite
        return finite

    def _target(self) -> NDArray[Any]:
        """Class codes (rows,) or numbers (rows,) or (rows, targets); -1 or NaN where not known."""
        import numpy as np

        rows, names = self.sheet.rows, self.schema.target
        there = all(name in self.sheet.columns for name in names)
        if self.schema.classes:
            codes = np.full(rows, -1, np.int64)
            if there and not self.schema.per_step:
                codes[:] = self._codes_of(names[0], self.schema.classes, "a class")
            return codes
        numbers = np.full((rows, len(names)), math.nan)
        for at, name in enumerate(names if there else []):
            numbers[:, at] = self.make_numeric(name).values
        return numbers[:, 0] if len(names) == 1 else numbers

    def _codes_of(self, name: str, categories: Sequence[str], what: str) -> NDArray[np.int32]:
        import numpy as np

        found = self.sheet.columns[name]
        column = columns.as_texts(found) if isinstance(found, Numeric) else found
        known = {category: code for code, category in enumerate(categories)}
        codes = [known.get(text, known.get(_as_number(text), -1)) for text in column.texts]
        odd = [text for text, code in zip(column.texts, codes, strict=True) if code < 0]
        self._note_odd(column, odd, f"not {what} that the model knows")
        # The last entry serves code -1.
        return np.array([*codes, -1], np.int32)[column.codes]

    def _note_odd(self, column: columns.Textual, odd: list[str], problem: str) -> None:
        import numpy as np

        if odd:
            rows = np.isin(column.codes, [column.texts.index(text) for text in odd])
            self.notes.append(
                f"Column {quoted(column.name)}: {_values(int(rows.sum()))} {problem} "
                f"(like {quoted(odd[0])}): missing."
            )


def _as_number(text: str) -> str:
    """How a class that is a number is called, however it is written: 1.0 is class 1."""
    found = columns.number(text)
    return text if found is None or not math.isfinite(found) else columns.label(found)


def _unused(sheet: Sheet, schema: protocol.DatasetSchema) -> list[str]:
    origin = schema.origin or protocol.Origin()
    known = {column.name for column in schema.columns}.union(schema.target, origin.channels)
    unused = [
        name
        for name in sheet.columns
        if name not in known and name not in (origin.id, origin.time, origin.text)
    ]
    if not unused:
        return []
    first = ", ".join(quoted(name) for name in unused[:MENTIONED_COLUMNS])
    more = " ..." if unused[MENTIONED_COLUMNS:] else ""
    return [f"Not used by the model: {first}{more}."]


def _values(count: int) -> str:
    return "1 value is" if count == 1 else f"{count:,} values are"


def _no_numbers(rows: int) -> NDArray[np.float64]:
    import numpy as np

    return np.empty((rows, 0))


def _no_codes(rows: int) -> NDArray[np.int32]:
    import numpy as np

    return np.empty((rows, 0), np.int32)
