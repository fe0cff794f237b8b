"""What is drawn as one: rows, whole groups, or blocks of rows that follow each other in time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Units = NDArray[np.int64]

# Numbers in one batch of resamples: 8 bytes each, a few times over.
BATCH_VALUES = 4_000_000


def units(rows: int, group: NDArray[Any] | None = None, ordered: bool = False) -> Units:
    """The unit of each row, (rows,), numbered from 0.

    A row by itself; its `group` where there are groups (the steps of one row are a group, too);
    in time order a block of neighbours (Carlstein 1986), whose errors hang together: variances are
    taken between blocks that do not overlap, resamples are of all blocks there are.
    """
    found: Units = np.arange(rows, dtype=np.int64)
    if group is not None:
        found = np.unique(group, return_inverse=True)[1].reshape(-1).astype(np.int64)
    elif ordered:
        found //= block_length(rows)
    return found


def block_length(rows: int) -> int:
    """Rows of a block in time order: of the order that is best for a variance (Kunsch 1989)."""
    length: int = math.ceil(rows ** (1 / 3))
    return length


def standard_error(influence: Floats, unit: Units) -> tuple[float, int]:
    """Of an estimate that is off by the sum of `influence` over rows, (rows,); and the degrees of
    freedom. Between-unit variance, so that rows of a unit may hang together (Obuchowski 1997).
    """
    sums = np.bincount(unit, influence)
    if len(sums) < 2:
        return math.nan, 0
    return float(np.sqrt(len(sums) * sums.var(ddof=1))), len(sums) - 1


def draws(
    unit: Units,
    times: int,
    rng: np.random.Generator,
    stratum: NDArray[Any] | None = None,
    *,
    ordered: bool = False,
) -> Iterator[NDArray[np.int64]]:
    """How often each row is drawn, (batch, rows), `times` in all: as many units as there are, with
    replacement; with `stratum` (units,) as many of each stratum as there are of it.

    `ordered`: as many rows as there are, in blocks of neighbours that begin anywhere, the first row
    following the last: the circular moving-block bootstrap (Kunsch 1989; Politis and Romano 1992).
    """
    if ordered:
        yield from _moving_blocks(len(unit), times, rng)
        return
    count = int(unit.max()) + 1
    strata = [np.arange(count)]
    if stratum is not None:
        strata = [np.flatnonzero(stratum == each) for each in np.unique(stratum)]
    batch = max(1, BATCH_VALUES // len(unit))
    for first in range(0, times, batch):
        size = min(batch, times - first)
        drawn = [each[rng.integers(0, len(each), (size, len(each)))] for each in strata]
        places = np.concatenate(drawn, axis=1) + np.arange(size)[:, None] * count
        counts = np.bincount(places.ravel(), minlength=size * count).reshape(size, count)
        yield counts[:, unit]


def _moving_blocks(rows: int, times: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    length = block_length(rows)
    batch = max(1, BATCH_VALUES // rows)
    for first in range(0, times, batch):
        size = min(batch, times - first)
        begins = rng.integers(0, rows, (size, math.ceil(rows / length), 1))
        # The last block is cut where the rows are as many as there are.
        drawn = ((begins + np.arange(length)) % rows).reshape(size, -1)[:, :rows]
        places = drawn + np.arange(size)[:, None] * rows
        yield np.bincount(places.ravel(), minlength=size * rows).reshape(size, rows)
