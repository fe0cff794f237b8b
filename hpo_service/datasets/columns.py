"""What a column of a CSV file holds: numbers if every value is one, else categories."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hpo_service import errors
from hpo_service.datasets.csv_file import FIELD, MISSING, CsvFile, at_line, quoted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# A text column with more different texts is no set of categories: every one becomes an input.
MAX_CATEGORIES = 1_000
# Up to so many different texts a small table may have in a column, all of them different or not.
FEW = 20


@dataclass(frozen=True, eq=False)
class Numeric:
    """Numbers: float64 (rows,), NaN where missing; `decimal_comma`: written as 1,5."""

    name: str
    values: NDArray[np.float64]
    decimal_comma: bool = False

    def missing(self) -> NDArray[np.bool_]:
        import numpy as np

        return np.isnan(self.values)

    def take(self, rows: NDArray[np.bool_]) -> Numeric:
        return replace(self, values=self.values[rows])


@dataclass(frozen=True, eq=False)
class Textual:
    """Texts: int32 (rows,) codes into `texts`, which is sorted; -1 where missing."""

    name: str
    codes: NDArray[np.int32]
    texts: list[str]

    def missing(self) -> NDArray[np.bool_]:
        return self.codes < 0

    def take(self, rows: NDArray[np.bool_]) -> Textual:
        """These rows, with the texts that occur in them."""
        return _textual(self.name, self.codes[rows], self.texts)

    def first_text_that_is_no_number(self) -> tuple[str, int] | None:
        """An outlier among numbers: the text and its row; None where numbers are not the rule."""
        import numpy as np

        odd = [code for code, text in enumerate(self.texts) if number(text) is None]
        if not odd or 2 * len(odd) >= len(self.texts):
            return None
        row = int(np.isin(self.codes, odd).argmax())
        return self.texts[self.codes[row]], row


Column = Numeric | Textual


def read(file: CsvFile) -> list[Column]:
    """All columns in the file's order; raises `InvalidRequest` for an infinite number.

    Where another delimiter than the comma was found, 1,5 is a number too if that makes the whole
    column one.
    """
    numbers = file.numbers()
    others = [position for position in range(len(file.columns)) if position not in numbers]
    texts = file.texts(others) if others else None
    columns = [
        _from_text(name, texts[position], decimal_comma=file.delimiter != ",")
        if texts is not None and position not in numbers
        else Numeric(name, numbers[position])
        for position, name in enumerate(file.columns)
    ]
    for column in columns:
        if isinstance(column, Numeric):
            _refuse_infinite(file, column)
    return columns


def number(text: str) -> float | None:
    """The number that a text is, infinite ones included; None where it is none."""
    try:
        # Python reads 1_000 as a number; in a file it is a text like any other.
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _from_text(name: str, series: Any, *, decimal_comma: bool) -> Column:
    import numpy as np

    column = textual(name, series)
    values = [number(text) for text in column.texts]
    decimal_comma = decimal_comma and None in values
    if decimal_comma:
        values = [number(text.replace(",", ".")) for text in column.texts]
    if None in values:
        return column
    # The last entry serves code -1.
    numbers = np.array([*values, math.nan], np.float64)[column.codes]
    return Numeric(name, numbers, decimal_comma)


def textual(name: str, series: Any) -> Textual:
    """A column of `CsvFile.texts`, read as texts whatever they look like."""
    import numpy as np

    codes = series.cat.codes.to_numpy().astype(np.int32)
    return _textual(name, codes, [str(text).strip() for text in series.cat.categories])


def _textual(name: str, codes: NDArray[np.int32], texts: list[str]) -> Textual:
    """Sort the texts that occur, put equal ones together, and mark those that mean missing."""
    import numpy as np

    occurring = np.unique(codes[codes >= 0]).tolist()
    kept = sorted({texts[code] for code in occurring} - MISSING)
    position = {text: code for code, text in enumerate(kept)}
    # The last entry serves code -1.
    recoded = np.array([*(position.get(text, -1) for text in texts), -1], np.int32)
    return Textual(name, recoded[codes], kept)


def _refuse_infinite(file: CsvFile, column: Numeric) -> None:
    import numpy as np

    infinite = np.isinf(column.values)
    if infinite.any():
        line = file.lines[int(infinite.argmax())]
        raise at_line(
            line,
            f"has an infinite number in column {quoted(column.name)}: "
            "write a number, or leave the field empty",
        )


def choose(columns: list[Column], lines: NDArray[np.uint32]) -> tuple[list[Column], list[str]]:
    """The columns worth training on, and a sentence for each that is not or looks odd.

    `lines` has the line number of each row. Raises `InvalidRequest` where no column is left.
    """
    kept, warnings = [], []
    for column in columns:
        useless = _useless(column, lines)
        if useless is None:
            kept.append(column)
            found = _oddities(column, lines)
        else:
            found = [f"{useless}: left out"]
        warnings += [f"Column {quoted(column.name)} {finding}." for finding in found]
    if not kept:
        raise errors.invalid(
            FIELD, f"no column is left to learn from besides the target. {' '.join(warnings)}"
        )
    return kept, warnings


def _useless(column: Column, lines: NDArray[np.uint32]) -> str | None:
    missing = column.missing()
    if missing.all():
        return "has no value in any row"
    if isinstance(column, Textual):
        return _useless_text(column, int((~missing).sum()), lines)
    constant = not missing.any() and column.values.min() == column.values.max()
    return "has the same value in all rows" if constant else None


def _useless_text(column: Textual, known: int, lines: NDArray[np.uint32]) -> str | None:
    different, rows = len(column.texts), len(column.codes)
    if known == 1:
        return "has a value in one row only"
    if different == 1:
        # With missing values beside it, it still tells those apart.
        return "has the same value in all rows" if known == rows else None
    like_an_id = different == known or (different > FEW and different > known / 2)
    if not like_an_id and different <= MAX_CATEGORIES:
        return None
    outlier = _outlier(column, lines)
    if outlier:
        return f"{outlier}, so that it cannot be read as numbers"
    kind = "an id or free text" if like_an_id else "more than can be told apart"
    return f"has {different:,} different texts (like {quoted(column.texts[0])}), {kind}"


def _oddities(column: Column, lines: NDArray[np.uint32]) -> list[str]:
    import numpy as np

    odd = []
    missing = column.missing()
    if missing.mean() > 0.5:
        odd.append(f"is empty in {missing.mean():.0%} of the rows")
    if isinstance(column, Textual):
        outlier = _outlier(column, lines)
        return [*odd, f"{outlier}, so that it is read as categories"] if outlier else odd
    if column.decimal_comma:
        odd.append("is written with decimal commas: 1,5 is read as 1.5")
    if len(missing) > 2 and (np.diff(column.values) == 1).all():
        odd.append("counts the rows: remove it if it is only a row number")
    return odd


def _outlier(column: Textual, lines: NDArray[np.uint32]) -> str | None:
    found = column.first_text_that_is_no_number()
    if found is None:
        return None
    text, row = found
    return f"has numbers for the most part, but line {lines[row]:,} has {quoted(text)}"
