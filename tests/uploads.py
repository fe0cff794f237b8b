"""Files as users have them, and what becomes of them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hpo_service import errors, protocol
from hpo_service.datasets import Table
from hpo_service.datasets.ingest import ingest


def csv_of(**columns: Any) -> bytes:
    return pd.DataFrame(columns).to_csv(index=False).encode()


def npz_of(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def parquet_of(**columns: Any) -> bytes:
    pytest.importorskip("pyarrow")
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer, index=False)
    return buffer.getvalue()


def taken(data: bytes, target: str | None = "y", **query: Any) -> tuple[Table, str]:
    """The table, and all notes as one text."""
    table, notes = ingest(data, protocol.Upload(name="mine", target=target, **query))
    return table, "\n".join(notes)


def refused(data: bytes, target: str | None = "y", **query: Any) -> errors.InvalidRequest:
    with pytest.raises(errors.InvalidRequest) as caught:
        taken(data, target, **query)
    return caught.value
