"""A CSV file as uploaded: checked line by line, then read into columns.

Python's `csv` module finds what is wrong and in which line; pandas reads the values. Both go
through the file once or twice from start to end, so time and memory grow with its size.
"""

from __future__ import annotations

import csv
import io
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product
from typing import TYPE_CHECKING, Any

import pydantic

from hpo_service import errors, protocol

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

MAX_ROWS = 2_000_000
MAX_COLUMNS = 5_000
MAX_CELLS = 100_000_000  # 0.8 GB as float64
DELIMITERS = (",", ";", "\t", "|")
SAMPLE_RECORDS = 20
CHUNK_CELLS = 2_000_000
MANY_COLUMNS = 200
FIELD = "file"
# First bytes of files that are no CSV, and what to do with such a file.
FOREIGN = {
    b"\x93NUMPY": "is an NPY file: write it with numpy.savez(file, x=..., y=...)",
    b"PAR1": "is a Parquet file that was cut off: send it whole",
    b"\xff\xfe": "is text in UTF-16: save it as CSV in UTF-8",
    b"\xfe\xff": "is text in UTF-16: save it as CSV in UTF-8",
    b"\xd0\xcf\x11\xe0": "is a workbook of Excel: save it as CSV in UTF-8",
}

_TEXT = pydantic.TypeAdapter(protocol.Text)


def _spellings(word: str) -> Iterator[str]:
    return map("".join, product(*({c.lower(), c.upper()} for c in word)))


# What stands for "not known", however it is written.
MISSING = frozenset(
    spelling
    for word in ("", "NA", "N/A", "NaN", "null", "none", "?")
    for spelling in _spellings(word)
)


@dataclass(frozen=True, eq=False)
class CsvFile:
    """A file without a fault in its form; `lines` has the line number of each row."""

    data: bytes
    delimiter: str
    columns: list[str]
    lines: array[int]

    @property
    def decimal_comma(self) -> bool:
        """Whether 1,5 may be a number."""
        return self.delimiter != ","

    def numbers(self) -> dict[int, NDArray[np.float64]]:
        """The columns that hold numbers alone, by position; NaN where missing."""
        import numpy as np
        from pandas.api.types import is_bool_dtype, is_numeric_dtype

        parts: dict[int, list[Any]] = {position: [] for position in range(len(self.columns))}
        # In chunks, so that the text of the whole file never lies in memory as objects.
        size = max(1, CHUNK_CELLS // len(self.columns))
        with self._read(chunksize=size, low_memory=False) as chunks:
            for chunk in chunks:
                for position in list(parts):
                    column = chunk[position]
                    if is_numeric_dtype(column) and not is_bool_dtype(column):
                        parts[position].append(column.to_numpy(np.float64))
                    else:
                        del parts[position]
        found = {position: np.concatenate(part) for position, part in parts.items()}
        for column in found.values():
            self._check_length(len(column))
        return found

    def texts(self, positions: list[int]) -> pd.DataFrame:
        """These columns, which hold other than numbers, as pandas categoricals of their texts."""
        # By pieces it takes less memory, but uniting the categories of thousands of columns takes
        # longer than all else.
        by_pieces = len(positions) < MANY_COLUMNS
        frame: pd.DataFrame = self._read(usecols=positions, dtype="category", low_memory=by_pieces)
        self._check_length(len(frame))
        return frame

    def written(self, positions: list[int]) -> pd.DataFrame:
        """As `texts`, for columns of numbers too: 01 stays 01."""
        frame: pd.DataFrame = self._read(usecols=positions, dtype="str")
        self._check_length(len(frame))
        return frame.astype("category")

    def _check_length(self, rows: int) -> None:
        # pandas and the csv module part ways over rare things such as a tab before a quote.
        if rows != len(self.lines):
            raise errors.invalid(FIELD, "is ambiguous: remove blanks and tabs before quotes")

    def _read(self, **options: Any) -> Any:
        import pandas as pd

        return pd.read_csv(
            io.BytesIO(self.data),
            sep=self.delimiter,
            header=0,
            names=list(range(len(self.columns))),
            index_col=False,
            skipinitialspace=True,
            na_values=list(MISSING),
            keep_default_na=False,
            encoding="utf-8",
            **options,
        )


def scan(data: bytes, fewest: int = 2) -> CsvFile:
    """Check the whole file; raises `InvalidRequest` that names the line and what to do.

    `fewest`: columns that it must have.
    """
    _refuse_nul(data)
    try:
        delimiter = max(DELIMITERS, key=lambda candidate: _fit(data, candidate))
        return _scan(data, delimiter, fewest)
    except UnicodeDecodeError:
        raise _not_utf8(data) from None


def _refuse_nul(data: bytes) -> None:
    position = data.find(b"\0")
    if position >= 0:
        for start, what in FOREIGN.items():
            if data.startswith(start):
                raise errors.invalid(FIELD, what)
        line = data.count(b"\n", 0, position) + 1
        raise at_line(line, "has a NUL byte: this is no text file, save it as CSV in UTF-8")


def _not_utf8(data: bytes) -> errors.InvalidRequest:
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return at_line(line, "is not UTF-8: save the file as CSV in UTF-8")
    raise AssertionError("called only for what cannot be decoded")


def _fit(data: bytes, delimiter: str) -> tuple[bool, int]:
    """How well a delimiter fits the first records: all of one width, and then how wide."""
    widths: list[int] = []
    try:
        records = islice(_reader(data, delimiter), SAMPLE_RECORDS)
        widths.extend(len(fields) for fields in records if fields)
        equal = len(set(widths)) == 1
    except csv.Error:
        equal = False
    width = widths[0] if widths else 0
    return width > 1 and equal, width


def _scan(data: bytes, delimiter: str, fewest: int) -> CsvFile:
    reader = _reader(data, delimiter)
    lines = array("I")
    start = 1
    try:
        columns = _header(next((fields for fields in reader if fields), []), fewest)
        width = len(columns)
        start = reader.line_num + 1
        for fields in reader:
            if len(fields) == width:
                lines.append(reader.line_num)
                if len(lines) * width > MAX_CELLS or len(lines) > MAX_ROWS:
                    raise _too_long(width)
            elif fields:
                raise at_line(start, f"has {len(fields)} fields, the header has {width}")
            start = reader.line_num + 1
    except csv.Error as error:
        raise at_line(start, _what_is_wrong(error)) from None
    if not lines:
        raise errors.invalid(FIELD, "has a header line and no rows")
    return CsvFile(data=data, delimiter=delimiter, columns=columns, lines=lines)


def _reader(data: bytes, delimiter: str) -> Any:
    # newline="" leaves line breaks inside quotes to the csv module.
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="")
    return csv.reader(text, delimiter=delimiter, skipinitialspace=True, strict=True)


def _what_is_wrong(error: csv.Error) -> str:
    message = str(error)
    if "end of data" in message or "field limit" in message:
        return "opens a quote that is not closed"
    if "expected after" in message:
        return "goes on after a closing quote: double the quotes that belong to the text"
    return f"cannot be read: {message}"


def _header(fields: list[str], fewest: int) -> list[str]:
    if not fields:
        raise errors.invalid(FIELD, "is empty: send a CSV file with a header line and rows")
    if len(fields) < fewest:
        raise errors.invalid(
            FIELD,
            "has one column only: inputs and a target are needed, "
            "separated by comma, semicolon, tab or |",
        )
    if len(fields) > MAX_COLUMNS:
        raise errors.invalid(FIELD, f"has {len(fields):,} columns: {MAX_COLUMNS:,} are the most")
    names = [_column_name(position, name) for position, name in enumerate(fields, start=1)]
    for name, count in Counter(names).items():
        if count > 1:
            raise at_line(1, f"names {count} columns {quoted(name)}: give each its own name")
    return names


def _column_name(position: int, name: str) -> str:
    try:
        name = _TEXT.validate_python(name.strip())
    except pydantic.ValidationError:
        raise at_line(1, f"has control characters in the name of column {position}") from None
    if not name:
        raise at_line(
            1, f"has no name for column {position} (from pandas? write it with index=False)"
        )
    return name


def _too_long(width: int) -> errors.InvalidRequest:
    most = min(MAX_ROWS, MAX_CELLS // width)
    return errors.invalid(
        FIELD, f"has more than {most:,} rows, the most for {width:,} columns: take a sample of it"
    )


def at_line(line: int, message: str) -> errors.InvalidRequest:
    """The error for something wrong in one line of the file."""
    return errors.invalid(FIELD, f"line {line:,} {message}")


def quoted(text: str) -> str:
    """A text from the file, in quotes, short enough for a message."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
