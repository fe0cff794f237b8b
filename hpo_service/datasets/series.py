"""Sequences: labelled series of the UCR and UEA archives, and windows of a series to forecast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpo_service import protocol
from hpo_service.datasets import packaged
from hpo_service.datasets.table import Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Steps that a forecast looks back on.
WINDOW = 24


def classified(name: str, target: str) -> Table:
    """An archive's data set that aeon carries: the official training rows, then the test rows."""
    import numpy as np

    train, test = (
        read_ts(packaged.file("aeon", f"aeon/datasets/data/{name}/{name}_{part}.ts"))
        for part in ("TRAIN", "TEST")
    )
    found = train + test
    classes = sorted({label for _, label in found})
    rows = [series for series, _ in found]
    steps, channels = max(map(len, rows)), rows[0].shape[1]
    values = np.full((len(rows), steps, channels), np.nan)
    for at, series in enumerate(rows):
        values[at, : len(series)] = series
    codes = np.array([classes.index(label) for _, label in found])
    table = _table(values, codes, target, classes)
    schema = table.schema.model_copy(update={"tested": True})
    return replace(
        table, schema=schema, test=np.repeat([0, 1], [len(train), len(test)]).astype(np.uint8)
    )


def read_ts(path: Path) -> list[tuple[Floats, str]]:
    """Each row of a .ts file without time stamps: (steps, channels), NaN for `?`, and its label.

    A row is `channel:...:channel:label`, a channel its comma-separated steps; comments and
    `@` settings come first, then `@data`.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    start = [line.strip().lower() for line in lines].index("@data") + 1
    return [_row(line) for line in lines[start:] if line.strip()]


def _row(line: str) -> tuple[Floats, str]:
    import numpy as np

    *channels, label = line.strip().split(":")
    read = [channel.replace("?", "nan").split(",") for channel in channels]
    return np.array(read, np.float64).T, label


def forecast(package: str, path: str, column: str) -> Table:
    """Windows of a column of a CSV file, each with the value that comes next, in order of time.

    Windows with a gap are left out: filling one would need what came after it.
    """
    import numpy as np
    import pandas as pd

    series = pd.read_csv(packaged.file(package, path))[column].to_numpy(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(series, WINDOW + 1)
    windows = windows[~np.isnan(windows).any(1)]
    return _table(windows[:, :WINDOW, None], windows[:, WINDOW], f"next {column}", [])


def _table(values: Floats, target: NDArray[np.generic], name: str, classes: list[str]) -> Table:
    """`values` (rows, steps, channels); numbers to predict are forecasts."""
    import numpy as np

    rows, steps, channels = values.shape
    schema = protocol.DatasetSchema(
        task="classification" if classes else "regression",
        rows=rows,
        columns=[
            protocol.Column(name=f"step_{step}_channel_{channel}", kind="numeric")
            for step in range(steps)
            for channel in range(channels)
        ],
        target=[name],
        classes=classes,
        shape=[steps, channels],
        ordered=not classes,
    )
    return Table(
        schema=schema,
        numeric=np.ascontiguousarray(values.reshape(rows, -1)),
        categorical=np.empty((rows, 0), np.int32),
        target=target.astype(np.int64 if classes else np.float64),
    )
