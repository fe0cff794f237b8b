"""Read a data blob: a safetensors file with its schema as JSON in the metadata."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from hpo_service import protocol

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Rows as stored: `numeric` (rows, p), NaN where missing; `categorical` (rows, q) codes, -1
    where missing; `target` (rows,) class codes, (rows, steps) class codes and -1 where a step has
    none, or (rows, targets) numbers; `weight` and `group` (rows,), None where rows have none.
    `protocol.DatasetSchema` says how each kind of data lies.
    """

    schema: protocol.DatasetSchema
    numeric: Floats
    categorical: Codes
    target: Codes | Floats
    weight: Floats | None = None
    group: Codes | None = None

    @property
    def rows(self) -> int:
        return len(self.target)

    @property
    def outputs(self) -> int:
        """Classes, or numbers to predict."""
        return len(self.schema.classes) or self.target.shape[1]


def read(path: Path) -> Dataset:
    """The data set in the file; raises `OSError` or `SafetensorError` where it is not one."""
    with safe_open(path, framework="numpy") as blob:
        schema = protocol.DatasetSchema.model_validate_json(blob.metadata()["schema"])
        names = blob.keys()
        arrays = {name: blob.get_tensor(name) for name in names}
    target = arrays["target"]
    rows = len(target)
    return Dataset(
        schema=schema,
        numeric=arrays.get("numeric", np.empty((rows, 0))).astype(np.float64),
        categorical=arrays.get("categorical", np.empty((rows, 0))).astype(np.int64),
        target=target.astype(np.int64) if schema.classes else _columns(target),
        weight=arrays.get("weight"),
        group=arrays.get("group"),
    )


def _columns(target: NDArray[np.generic]) -> Floats:
    return target.reshape(len(target), -1).astype(np.float64)
