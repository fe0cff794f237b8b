"""A table in the order of time as windows to forecast from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpo_service import errors, protocol
from hpo_service.datasets import body
from hpo_service.datasets.columns import Numeric
from hpo_service.datasets.csv_file import FIELD, quoted
from hpo_service.datasets.sheet import Sheet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def cut(sheet: Sheet, target: str, steps: int, time: str | None) -> tuple[Sheet, body.Body]:
    """Windows of `steps` rows, each with the target's value in the row after it.

    Channels are the target first and then the other columns of numbers. Windows with a gap are
    left out: filling one would need what came after it. `time` is what the rows are sorted by, no
    channel. Raises `InvalidRequest`.
    """
    import numpy as np

    sheet = sheet.without([time] if time else [])
    goal = sheet.column("target", target)
    if not isinstance(goal, Numeric):
        raise errors.invalid("target", f"column {quoted(target)} holds texts: name one of numbers")
    others = [c for c in sheet.columns.values() if c is not goal and isinstance(c, Numeric)]
    others = [column for column in others if not column.missing().all()]
    left = [n for n, c in sheet.columns.items() if c is not goal and c not in others]
    if sheet.rows <= steps:
        raise errors.invalid(
            "forecast", f"{steps} rows before each need more than {steps} rows, not {sheet.rows}"
        )
    names = [column.name for column in (goal, *others)]
    windows = stacked([goal, *others], steps)[:-1]
    whole = ~np.isnan(windows).any((1, 2)) & ~goal.missing()[steps:]
    if not whole.any():
        raise errors.invalid(FIELD, f"has no {steps + 1} rows in turn without a missing number")
    notes = [f"Column {quoted(name)} holds no numbers: left out." for name in left]
    gaps = int((~whole).sum())
    if gaps:
        notes.append(f"{gaps:,} windows have a missing number: left out.")
    rows = whole.nonzero()[0] + steps
    origin = protocol.Origin(time=time, channels=names)
    made = body.sequences(windows[whole], names, origin, notes)
    return Sheet({goal.name: goal}, sheet.places).take(rows), made


def stacked(channels: list[Numeric], steps: int) -> NDArray[np.float64]:
    """Every window of the channels: (windows, steps, channels)."""
    import numpy as np

    values = np.stack([column.values for column in channels], 1)
    body.check_size(len(values) - steps + 1, steps * len(channels))
    views = np.lib.stride_tricks.sliding_window_view(values, steps, 0)
    return np.ascontiguousarray(views.transpose(0, 2, 1))
