"""A Parquet file as uploaded, read into columns. Needs the package pyarrow."""

from __future__ import annotations

import io
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import pydantic

from hpo_service import errors, protocol
from hpo_service.datasets import columns
from hpo_service.datasets.csv_file import FIELD, MAX_CELLS, MAX_COLUMNS, MAX_ROWS, quoted
from hpo_service.datasets.sheet import Places, Sheet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAGIC = b"PAR1"
# What pandas calls an index without a name: no column of the data.
INDEX = re.compile(r"__index_level_\d+__")
# Of what the file unfolds to; a dictionary of long texts is small in the file and large here.
MAX_BYTES = 8 * MAX_CELLS

_NAME = pydantic.TypeAdapter(protocol.ColumnName)


def read(data: bytes, as_text: Collection[str] = (), fewest: int = 2) -> Sheet:
    """All columns, `fewest` at least.

    Raises `InvalidRequest` for a file or a type of column that cannot be read.
    Numbers and decimals are numbers; texts, truth values, dates and times are texts, as are the
    columns named in `as_text`.
    """
    import numpy as np

    arrow = _package()
    try:
        table = _table(arrow, data, fewest)
        found = [_column(name, table.column(at), as_text) for at, name in enumerate(_names(table))]
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise errors.invalid(FIELD, f"is no Parquet file that can be read: {reason}") from None
    return Sheet.of(found, Places("row", np.arange(1, table.num_rows + 1)))


def _package() -> Any:
    try:
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError:
        raise errors.invalid(
            FIELD,
            "is a Parquet file, and the server has no pyarrow to read it: run `pip install "
            "pyarrow` where the server runs, or send the data as CSV",
        ) from None
    return pyarrow


def _table(arrow: Any, data: bytes, fewest: int) -> Any:
    # The footer is read first: a file of a kilobyte can declare billions of rows.
    file = arrow.parquet.ParquetFile(io.BytesIO(data))
    rows, width = file.metadata.num_rows, file.metadata.num_columns
    if rows == 0:
        raise errors.invalid(FIELD, "has no rows")
    if width < fewest:
        raise errors.invalid(FIELD, "has one column only: inputs and a target are needed")
    if width > MAX_COLUMNS:
        raise errors.invalid(FIELD, f"has {width:,} columns: {MAX_COLUMNS:,} are the most")
    _check_types(arrow, file.schema_arrow)
    groups = [file.metadata.row_group(at) for at in range(file.metadata.num_row_groups)]
    size = sum(group.total_byte_size for group in groups)
    if rows > MAX_ROWS or rows * width > MAX_CELLS or size > MAX_BYTES:
        raise errors.invalid(FIELD, f"has {rows:,} rows of {width:,} columns: take a sample of it")
    texts = [field.name for field in file.schema_arrow if _is_text(arrow, field.type)]
    table = arrow.parquet.read_table(io.BytesIO(data), read_dictionary=texts, use_threads=False)
    return table.drop_columns([name for name in table.column_names if INDEX.fullmatch(name)])


def _check_types(arrow: Any, schema: Any) -> None:
    """Refuse before anything is unfolded: a list in a row may hold any number of values."""
    types = arrow.types
    known = (
        types.is_null, types.is_integer, types.is_floating, types.is_decimal, types.is_boolean,
        types.is_string, types.is_large_string, types.is_temporal, types.is_dictionary,
    )  # fmt: skip
    for field in schema:
        kind = field.type.value_type if types.is_dictionary(field.type) else field.type
        if not any(is_it(kind) for is_it in known):
            raise errors.invalid(
                FIELD,
                f"column {quoted(field.name)} holds {field.type}: numbers, texts, dates and truth "
                "values are read",
            )


def _is_text(arrow: Any, kind: Any) -> bool:
    return bool(arrow.types.is_string(kind) or arrow.types.is_large_string(kind))


def _names(table: Any) -> list[str]:
    names = []
    for position, name in enumerate(table.column_names, start=1):
        try:
            names.append(_NAME.validate_python(name))
        except pydantic.ValidationError:
            raise errors.invalid(FIELD, f"has no proper name for column {position}") from None
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise errors.invalid(FIELD, f"has two columns {quoted(twice)}: give each its own name")
    return names


def _column(name: str, chunks: Any, as_text: Collection[str]) -> columns.Column:
    import pyarrow as pa

    values = chunks.combine_chunks() if isinstance(chunks, pa.ChunkedArray) else chunks
    kind = values.type
    if pa.types.is_null(kind):
        return columns.Numeric(name, _nothing(len(values)))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = columns.Numeric(name, _numbers(values))
        return columns.as_texts(numbers) if name in as_text else numbers
    if pa.types.is_dictionary(kind):
        return _dictionary(name, values)
    if pa.types.is_boolean(kind):
        return _dictionary(name, values.dictionary_encode())
    return _dictionary(name, values.cast(pa.string()).dictionary_encode())


def _nothing(rows: int) -> NDArray[np.float64]:
    import numpy as np

    return np.full(rows, np.nan)


def _numbers(values: Any) -> NDArray[np.float64]:
    """As float64, NaN where null; whole numbers beyond 2**53 are rounded."""
    import pyarrow as pa

    found: NDArray[np.float64] = values.cast(pa.float64(), safe=False).to_numpy(
        zero_copy_only=False
    )
    return found


def _dictionary(name: str, values: Any) -> columns.Column:
    import numpy as np

    codes = values.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    entries = values.dictionary.to_pylist()
    texts = ["" if entry is None else str(entry).strip() for entry in entries]
    return columns.textual(name, codes, texts)
