"""Inputs of rows that are more than columns of a table: series, images, texts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hpo_service import errors, protocol
from hpo_service.datasets.csv_file import FIELD, MAX_CELLS, MAX_ROWS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Body:
    """`values` (rows, ...): float64 of the shape's places, or int32 codes into `symbols`."""

    values: NDArray[Any]
    shape: list[int]
    names: list[str]
    symbols: list[str]
    origin: protocol.Origin | None
    notes: list[str]

    def take(self, rows: NDArray[Any]) -> Body:
        """These rows (a mask or indices), in the order given."""
        return replace(self, values=self.values[rows])

    @property
    def numeric(self) -> NDArray[np.float64]:
        import numpy as np

        rows = len(self.values)
        return np.empty((rows, 0)) if self.symbols else self.values.reshape(rows, -1)

    @property
    def categorical(self) -> NDArray[np.int32]:
        import numpy as np

        return self.values if self.symbols else np.empty((len(self.values), 0), np.int32)


def sequences(
    values: NDArray[np.float64],
    channels: list[str],
    origin: protocol.Origin | None = None,
    notes: list[str] | None = None,
) -> Body:
    """`values` (rows, steps, channels), NaN in all channels after the end."""
    steps = range(values.shape[1])
    names = [f"step_{step}_{channel}" for step in steps for channel in channels]
    return Body(values, [*values.shape[1:]], names, [], origin, notes or [])


def check_size(rows: int, cells_of_a_row: int) -> None:
    """Refuse what would not fit in memory; raises `InvalidRequest`."""
    if rows > MAX_ROWS or rows * cells_of_a_row > MAX_CELLS:
        raise errors.invalid(
            FIELD,
            f"makes {rows:,} rows of {cells_of_a_row:,} numbers each, more than {MAX_CELLS:,} in "
            "all: take a sample of it, or fewer steps",
        )
