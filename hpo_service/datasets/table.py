"""A data set in memory, and its one form as bytes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from hpo_service import protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_HEADER_SIZE_BYTES = 8


@dataclass(frozen=True, eq=False)
class Table:
    """Rows in their stored order; types and shapes of the arrays are those of `DatasetSchema`."""

    schema: protocol.DatasetSchema
    numeric: NDArray[np.float64]
    categorical: NDArray[np.int32]
    target: NDArray[Any]
    weight: NDArray[np.float64] | None = None
    group: NDArray[np.int64] | None = None
    test: NDArray[np.uint8] | None = None

    @cached_property
    def sha256(self) -> str:
        """The content's identity: SHA-256 of `to_bytes()`, in hex."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def take(self, rows: NDArray[np.int64]) -> Table:
        """These rows alone, in the order given."""
        return Table(
            schema=self.schema.model_copy(update={"rows": len(rows)}),
            **{name: array[rows] for name, array in self.arrays().items()},
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What there is of each row, by name."""
        found: dict[str, NDArray[Any] | None] = {
            "numeric": self.numeric,
            "categorical": self.categorical,
            "target": self.target,
            "weight": self.weight,
            "group": self.group,
            "test": self.test,
        }
        return {name: array for name, array in found.items() if array is not None}

    def to_bytes(self) -> bytes:
        """A safetensors file with the schema as JSON under `schema`; equal tables, equal bytes."""
        import numpy as np
        from safetensors.numpy import save

        # Defaults are left out, so that a field added to the schema later changes no hash.
        schema = self.schema.model_dump_json(exclude_defaults=True)
        # safetensors writes the memory as it lies, so strided views would come out scrambled.
        return save(
            {name: np.ascontiguousarray(array) for name, array in self.arrays().items()},
            metadata={"schema": schema},
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The table that `to_bytes` wrote."""
        from safetensors.numpy import load

        start = _HEADER_SIZE_BYTES
        header = json.loads(data[start : start + int.from_bytes(data[:start], "little")])
        schema = protocol.DatasetSchema.model_validate_json(header["__metadata__"]["schema"])
        return cls(schema=schema, **load(data))
