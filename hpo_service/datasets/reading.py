"""Which format a file has, and its columns."""

from __future__ import annotations

from collections.abc import Collection

from hpo_service.datasets import columns, csv_file, npz_file, parquet_file
from hpo_service.datasets.sheet import Places, Sheet


def format_of(data: bytes, given: str | None = None) -> str:
    """csv, parquet or npz: as given, or told from the first bytes."""
    if given:
        return given
    if data.startswith(parquet_file.MAGIC) and data.endswith(parquet_file.MAGIC):
        return "parquet"
    return "npz" if data.startswith(npz_file.MAGIC) else "csv"


def sheet(data: bytes, given: str | None, as_text: Collection[str], fewest: int = 2) -> Sheet:
    """The columns of a CSV or Parquet file, of which it must have `fewest` at least.

    Columns named in `as_text` are read as texts. Raises `InvalidRequest` about `file`.
    """
    import numpy as np

    if format_of(data, given) == "parquet":
        return parquet_file.read(data, as_text, fewest)
    file = csv_file.scan(data, fewest)
    places = Places("line", np.asarray(file.lines))
    return Sheet.of(columns.read(file, as_text), places, file.decimal_comma)
