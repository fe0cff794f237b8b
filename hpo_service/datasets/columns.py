"""What a column of a file holds: numbers if every value is one, else texts."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hpo_service.datasets.csv_file import MISSING, CsvFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Numeric:
    """Numbers: float64 (rows,), NaN where missing; `decimal_comma`: written as 1,5."""

    name: str
    values: NDArray[np.float64]
    decimal_comma: bool = False

    def missing(self) -> NDArray[np.bool_]:
        import numpy as np

        return np.isnan(self.values)

    def take(self, rows: NDArray[Any]) -> Numeric:
        return replace(self, values=self.values[rows])


@dataclass(frozen=True, eq=False)
class Textual:
    """Texts: int32 (rows,) codes into `texts`, which is sorted; -1 where missing."""

    name: str
    codes: NDArray[np.int32]
    texts: list[str]

    def missing(self) -> NDArray[np.bool_]:
        return self.codes < 0

    def take(self, rows: NDArray[Any]) -> Textual:
        """These rows, with the texts that occur in them."""
        return textual(self.name, self.codes[rows], self.texts)

    def first_text_that_is_no_number(self) -> tuple[str, int] | None:
        """An outlier among numbers: the text and its row; None where numbers are not the rule."""
        import numpy as np

        odd = [code for code, text in enumerate(self.texts) if number(text) is None]
        if not odd or 2 * len(odd) >= len(self.texts):
            return None
        row = int(np.isin(self.codes, odd).argmax())
        return self.texts[self.codes[row]], row


Column = Numeric | Textual


def read(file: CsvFile, as_text: Collection[str] = ()) -> list[Column]:
    """All columns in the file's order.

    Columns named in `as_text` are texts as written, whatever they hold. Where another delimiter
    than the comma was found, 1,5 is a number too if that makes the whole column one.
    """
    written = [at for at, name in enumerate(file.columns) if name in as_text]
    numbers = {at: values for at, values in file.numbers().items() if at not in written}
    others = [at for at in range(len(file.columns)) if at not in written and at not in numbers]
    texts = dict(file.texts(others).items()) if others else {}
    if written:
        texts |= dict(file.written(written).items())
    columns: list[Column] = []
    for at, name in enumerate(file.columns):
        if at in numbers:
            columns.append(Numeric(name, numbers[at]))
            continue
        codes, categories = texts[at].cat.codes.to_numpy(), texts[at].cat.categories
        found = textual(name, codes, [str(text).strip() for text in categories])
        columns.append(found if at in written else _numbers_if_all_are(found, file.decimal_comma))
    return columns


def number(text: str) -> float | None:
    """The number that a text is, infinite ones included; None where it is none."""
    try:
        # Python reads 1_000 as a number; in a file it is a text like any other.
        return None if "_" in text else float(text)
    except ValueError:
        return None


def label(value: float) -> str:
    """A number as the name of a class or category: 3 for 3.0."""
    return str(int(value)) if value.is_integer() else repr(value)


def textual(name: str, codes: NDArray[Any], texts: list[str]) -> Textual:
    """Sort the texts that occur, put equal ones together, and mark those that mean missing."""
    import numpy as np

    occurring = np.unique(codes[codes >= 0]).tolist()
    kept = sorted({texts[code] for code in occurring} - MISSING)
    position = {text: code for code, text in enumerate(kept)}
    # The last entry serves code -1.
    recoded = np.array([*(position.get(text, -1) for text in texts), -1], np.int32)
    return Textual(name, recoded[codes], kept)


def parsed(column: Textual, decimal_comma: bool) -> tuple[Numeric, list[str]]:
    """The numbers that the texts are, and the texts that are none: missing.

    `decimal_comma`: 1,5 is a number, too.
    """
    import numpy as np

    values = [number(text) for text in column.texts]
    commas = [
        number(text.replace(",", ".")) if value is None and decimal_comma else None
        for text, value in zip(column.texts, values, strict=True)
    ]
    read = [comma if value is None else value for value, comma in zip(values, commas, strict=True)]
    odd = [text for text, value in zip(column.texts, read, strict=True) if value is None]
    # The last entry serves code -1.
    known = [math.nan if value is None else value for value in read]
    numbers = np.array([*known, math.nan], np.float64)[column.codes]
    return Numeric(column.name, numbers, any(value is not None for value in commas)), odd


def as_texts(column: Numeric) -> Textual:
    """Each number as a text: 3 for 3.0."""
    import numpy as np

    known = ~np.isnan(column.values)
    distinct, found = np.unique(column.values[known], return_inverse=True)
    codes = np.full(len(column.values), -1)
    codes[known] = found
    return textual(column.name, codes, [label(value) for value in distinct.tolist()])


def _numbers_if_all_are(column: Textual, decimal_comma: bool) -> Column:
    """As numbers where every text is one, else as it is."""
    numbers, odd = parsed(column, decimal_comma)
    return column if odd else numbers
