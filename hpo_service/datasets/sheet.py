"""Columns beside one another as a file has them, whatever its format."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hpo_service import errors
from hpo_service.datasets import columns
from hpo_service.datasets.columns import Column, Numeric
from hpo_service.datasets.csv_file import FIELD, quoted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MENTIONED_COLUMNS = 10


@dataclass(frozen=True, eq=False)
class Places:
    """Where each row stands in its file: "line 7" of a CSV file, "row 7" of another."""

    word: str
    numbers: NDArray[Any]

    def of(self, row: int) -> str:
        return f"{self.word} {self.numbers[row]:,}"


@dataclass(frozen=True, eq=False)
class Sheet:
    """Columns of one length by name, in the file's order; `decimal_comma`: 1,5 may be a number."""

    columns: dict[str, Column]
    places: Places
    decimal_comma: bool = False

    @classmethod
    def of(cls, found: Iterable[Column], places: Places, decimal_comma: bool = False) -> Sheet:
        return cls({column.name: column for column in found}, places, decimal_comma)

    @property
    def rows(self) -> int:
        return len(self.places.numbers)

    def take(self, rows: NDArray[Any]) -> Sheet:
        """These rows (a mask or indices), in the order given."""
        taken = {name: column.take(rows) for name, column in self.columns.items()}
        places = Places(self.places.word, self.places.numbers[rows])
        return replace(self, columns=taken, places=places)

    def without(self, names: Collection[str]) -> Sheet:
        left = {name: column for name, column in self.columns.items() if name not in names}
        return replace(self, columns=left)

    def column(self, field: str, name: str) -> Column:
        """The column that a field of the request names; `InvalidRequest` with the choice."""
        found = self.columns.get(unicodedata.normalize("NFC", name.strip()))
        if found is not None:
            return found
        names = list(self.columns)
        known = ", ".join(quoted(column) for column in names[:MENTIONED_COLUMNS])
        more = " ..." if len(names) > MENTIONED_COLUMNS else ""
        raise errors.invalid(
            field,
            f"there is no column {quoted(name)}: choose one of {known}{more}{header_hint(names)}",
        )

    def complete(self, field: str, name: str) -> Column:
        """Such a column with a value in every row; `InvalidRequest` names the row without."""
        column = self.column(field, name)
        self.refuse(field, column, column.missing(), "is empty")
        return column

    def refuse(self, field: str, column: Column, rows: NDArray[np.bool_], why: str) -> None:
        """Raise `InvalidRequest` for the first of these rows, if there is any."""
        if rows.any():
            place = self.places.of(int(rows.argmax()))
            raise errors.invalid(field, f"column {quoted(column.name)} {why} in {place}")

    def refuse_infinite(self) -> None:
        """Raise `InvalidRequest` where a column has an infinite number."""
        for column in self.columns.values():
            if isinstance(column, Numeric):
                self._refuse_infinite(column)

    def _refuse_infinite(self, column: Numeric) -> None:
        import numpy as np

        infinite = np.isinf(column.values)
        if infinite.any():
            raise errors.invalid(
                FIELD,
                f"{self.places.of(int(infinite.argmax()))} has an infinite number in column "
                f"{quoted(column.name)}: write a number, or leave the field empty",
            )


def header_hint(names: Iterable[str]) -> str:
    """What to say where columns are called by numbers: the first line may be one of rows."""
    numbers = any(columns.number(name) is not None for name in names)
    return " (the first line must be a header)" if numbers else ""
