"""New rows for a model: a file read as the data that the model was trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hpo_service import errors, protocol
from hpo_service.datasets import columns, csv_file, target
from hpo_service.datasets.csv_file import FIELD, quoted
from hpo_service.datasets.table import Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MENTIONED_COLUMNS = 10


def apply(data: bytes, schema: protocol.DatasetSchema) -> tuple[Table, list[str]]:
    """The rows of a CSV file as a table of this schema, and a sentence on each oddity.

    Columns are found by their names, in any order; others are left aside. A text that is no
    category of its column, or no number where one is wanted, is missing. The target may be there:
    where a row has none that the model knows, its class is -1 and its number NaN. Raises
    `InvalidRequest` about `file` where it is no CSV file or lacks a column of the model.
    """
    if not schema.columns:
        raise errors.invalid(FIELD, f"a CSV file holds no {schema.kind}, which this model reads")
    file = csv_file.scan(data, fewest=1)
    rows = _Rows(file, schema)
    told = {"rows": len(file.lines), "weighted": False, "grouped": False, "tested": False}
    table = Table(
        schema=schema.model_copy(update=told),
        numeric=rows.numeric(),
        categorical=rows.categorical(),
        target=rows.target(),
    )
    return table, rows.notes


class _Rows:
    """A file's columns as a schema wants them; what was odd about them gathers in `notes`."""

    def __init__(self, file: csv_file.CsvFile, schema: protocol.DatasetSchema) -> None:
        self._schema, self._rows = schema, len(file.lines)
        self._positions = {name: at for at, name in enumerate(file.columns)}
        self.notes = _unused(file, schema)
        _require(file, [column.name for column in schema.columns])
        self._decimal_comma = file.delimiter != ","
        self._numbers = file.numbers()
        texts = [at for name, at in self._positions.items() if self._read_as_text(name)]
        self._texts = file.written(texts) if texts else None

    def numeric(self) -> NDArray[np.float64]:
        """(rows, numeric columns), NaN where missing."""
        import numpy as np

        names = [each.name for each in self._schema.columns if each.kind == "numeric"]
        found = np.empty((self._rows, len(names)))
        for at, name in enumerate(names):
            found[:, at] = self._numbers_of(name)
        return found

    def categorical(self) -> NDArray[np.int32]:
        """(rows, categorical columns) of the schema's codes, -1 where missing."""
        import numpy as np

        asked = [each for each in self._schema.columns if each.kind == "categorical"]
        found = np.empty((self._rows, len(asked)), np.int32)
        for at, column in enumerate(asked):
            found[:, at] = self._codes_of(column.name, column.categories, "a category")
        return found

    def target(self) -> NDArray[Any]:
        """Class codes (rows,) or numbers (rows,) or (rows, targets); -1 or NaN where not known."""
        import numpy as np

        names, there = self._schema.target, all(n in self._positions for n in self._schema.target)
        if self._schema.classes:
            codes = np.full(self._rows, -1, np.int64)
            if there and not self._schema.per_step:
                codes[:] = self._codes_of(names[0], self._schema.classes, "a class")
            return codes
        numbers = np.full((self._rows, len(names)), math.nan)
        for at, name in enumerate(names if there else []):
            numbers[:, at] = self._numbers_of(name)
        return numbers[:, 0] if len(names) == 1 else numbers

    def _read_as_text(self, name: str) -> bool:
        """Categories are wanted as they are written, even where all of them look like numbers."""
        kinds = {column.name: column.kind for column in self._schema.columns}
        classes = self._schema.target if self._schema.classes else []
        if kinds.get(name) == "categorical" or name in classes:
            return True
        wanted = name in kinds or name in self._schema.target
        return wanted and self._positions[name] not in self._numbers

    def _column(self, name: str) -> columns.Textual:
        assert self._texts is not None
        return columns.textual(name, self._texts[self._positions[name]])

    def _codes_of(self, name: str, categories: Sequence[str], what: str) -> NDArray[np.int32]:
        column = self._column(name)
        known = {category: code for code, category in enumerate(categories)}
        codes = [known.get(text, known.get(_as_number(text), -1)) for text in column.texts]
        return self._looked_up(column, codes, f"not {what} that the model knows", "int32")

    def _numbers_of(self, name: str) -> NDArray[np.float64]:
        import numpy as np

        position = self._positions[name]
        if position in self._numbers:
            values = self._numbers[position]
        else:
            column = self._column(name)
            numbers = [self._number(text) for text in column.texts]
            values = self._looked_up(column, numbers, "not a number", "float64")
        finite: NDArray[np.float64] = np.where(np.isinf(values), math.nan, values)
        if infinite := int(np.isinf(values).sum()):
            self.notes.append(f"Column {quoted(name)}: {_values(infinite)} infinite: missing.")
        return finite

    def _number(self, text: str) -> float:
        found = columns.number(text)
        if found is None and self._decimal_comma:
            found = columns.number(text.replace(",", "."))
        return math.nan if found is None else found

    def _looked_up(
        self, column: columns.Textual, values: Sequence[float], problem: str, dtype: str
    ) -> NDArray[Any]:
        """The value of each row's text; what has none is counted."""
        import numpy as np

        missing = -1 if dtype == "int32" else math.nan
        odd = [at for at, value in enumerate(values) if value == missing or math.isnan(value)]
        if count := int(np.isin(column.codes, odd).sum()):
            example = quoted(column.texts[odd[0]])
            self.notes.append(
                f"Column {quoted(column.name)}: {_values(count)} {problem} "
                f"(like {example}): missing."
            )
        # The last entry serves code -1.
        found: NDArray[Any] = np.array([*values, missing], dtype)[column.codes]
        return found


def _as_number(text: str) -> str:
    """How a class that is a number is called, however it is written: 1.0 is class 1."""
    found = columns.number(text)
    return text if found is None or not math.isfinite(found) else target.label(found)


def _require(file: csv_file.CsvFile, names: list[str]) -> None:
    missing = [name for name in names if name not in file.columns]
    if not missing:
        return
    first = ", ".join(quoted(name) for name in missing[:MENTIONED_COLUMNS])
    more = f" and {len(missing) - MENTIONED_COLUMNS} more" if missing[MENTIONED_COLUMNS:] else ""
    header = (
        " (the first line must be a header)"
        if any(columns.number(column) is not None for column in file.columns)
        else ""
    )
    thing = "column" if len(missing) == 1 else "columns"
    raise errors.invalid(FIELD, f"lacks the {thing} {first}{more}, which the model reads{header}")


def _unused(file: csv_file.CsvFile, schema: protocol.DatasetSchema) -> list[str]:
    known = {column.name for column in schema.columns} | set(schema.target)
    unused = [name for name in file.columns if name not in known]
    if not unused:
        return []
    first = ", ".join(quoted(name) for name in unused[:MENTIONED_COLUMNS])
    more = " ..." if unused[MENTIONED_COLUMNS:] else ""
    return [f"Not used by the model: {first}{more}."]


def _values(count: int) -> str:
    return "1 value is" if count == 1 else f"{count:,} values are"
