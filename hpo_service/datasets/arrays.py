"""The arrays of an NPZ file as rows: columns of a table, sequences or images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hpo_service import errors
from hpo_service.datasets import body
from hpo_service.datasets.columns import Column, Numeric, textual
from hpo_service.datasets.csv_file import FIELD, MAX_COLUMNS, quoted
from hpo_service.datasets.sheet import Places, Sheet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INPUTS = ("x", "X", "inputs")
TARGETS = ("y", "target")
CHANNELS = (1, 3, 4)
Kind = Literal["table", "sequence", "image"]
AXES: dict[Kind, str] = {
    "table": "its axes are rows and columns",
    "sequence": "its axes are rows, steps and, if there are several, channels",
    "image": "its axes are rows, height, width and, if there are several, channels",
}


@dataclass(frozen=True, eq=False)
class Arrays:
    """`sheet`: target, roles and, of a table, the columns; `body`: inputs that are no table."""

    sheet: Sheet
    body: body.Body | None
    target: str | None


def split(
    arrays: dict[str, NDArray[Any]], target: str | None, roles: dict[str, str], kind: Kind | None
) -> Arrays:
    """`target` and `roles` name arrays; unset, the target is `y` or `target` if there is one.

    Inputs are `x`, `X` or `inputs`, or the one other array there is. Raises `InvalidRequest`.
    """
    import numpy as np

    target = target or next((name for name in TARGETS if name in arrays), None)
    used = {*roles.values(), *([target] if target else [])}
    name = _inputs(arrays, used)
    rows = len(arrays[name]) if arrays[name].ndim else 0
    if rows == 0:
        raise errors.invalid(FIELD, f"array {quoted(name)} has no rows")
    named = {"target": target, **roles} if target else roles
    columns = [_column(field, each, arrays, rows) for field, each in named.items() if each]
    places = Places("row", np.arange(rows))
    inputs = _numbers(name, arrays[name])
    shaped = _shaped(name, inputs, kind)
    if shaped is None:
        columns = [*_columns(name, inputs), *columns]
    return Arrays(Sheet.of(columns, places), shaped, target)


def _inputs(arrays: dict[str, NDArray[Any]], used: set[str]) -> str:
    others = [name for name in arrays if name not in used]
    found = [name for name in INPUTS if name in others] or others
    if len(found) == 1:
        return found[0]
    shown = ", ".join(map(quoted, list(arrays)[:10]))
    raise errors.invalid(FIELD, f"should hold its inputs in an array named x; it has {shown}")


def _column(field: str, name: str, arrays: dict[str, NDArray[Any]], rows: int) -> Column:
    import numpy as np

    if name not in arrays:
        shown = ", ".join(map(quoted, list(arrays)[:10]))
        raise errors.invalid(field, f"there is no array {quoted(name)}: choose one of {shown}")
    values = arrays[name]
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape != (rows,):
        raise errors.invalid(
            field,
            f"array {quoted(name)} should have one value for each of {rows:,} rows, "
            f"its shape is {values.shape}",
        )
    if values.dtype.kind not in "US":
        return Numeric(name, values.astype(np.float64))
    texts, codes = np.unique(values, return_inverse=True)
    return textual(name, codes, [_text(text) for text in texts.tolist()])


def _text(value: str | bytes) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    # Any code point fits into an array of texts, and half a surrogate pair into no file.
    return text.encode("utf-8", "replace").decode("utf-8").strip()


def _numbers(name: str, values: NDArray[Any]) -> NDArray[np.float64]:
    import numpy as np

    if values.dtype.kind in "US":
        raise errors.invalid(
            FIELD, f"array {quoted(name)} holds texts: inputs are numbers, send texts as CSV"
        )
    body.check_size(len(values), values[0].size)
    found: NDArray[np.float64] = values.astype(np.float64)
    infinite = np.isinf(found).reshape(len(found), -1).any(1)
    if infinite.any():
        row = int(infinite.argmax())
        raise errors.invalid(FIELD, f"array {quoted(name)} has an infinite number in row {row:,}")
    return found


def _columns(name: str, values: NDArray[np.float64]) -> list[Numeric]:
    flat = values.reshape(len(values), -1)
    if flat.shape[1] > MAX_COLUMNS:
        raise errors.invalid(FIELD, f"has {flat.shape[1]:,} columns: {MAX_COLUMNS:,} are the most")
    return [Numeric(f"{name}_{at}", flat[:, at]) for at in range(flat.shape[1])]


def _shaped(name: str, values: NDArray[np.float64], kind: Kind | None) -> body.Body | None:
    """The inputs in their form; None for a table."""
    axes = values.ndim
    usual: dict[int, Kind] = {3: "sequence", 4: "image"}
    found = kind or usual.get(axes, "table")
    if found == "table" and axes <= 2:
        return None
    if found == "sequence" and axes in (2, 3):
        series = values.reshape(*values.shape[:2], -1)
        channels = [f"channel_{channel}" for channel in range(series.shape[2])]
        return body.sequences(series, channels, None)
    if found == "image" and axes in (3, 4):
        return _images(name, values)
    raise errors.invalid(
        "kind", f"array {quoted(name)} of shape {values.shape} holds no {found}s: {AXES[found]}"
    )


def _images(name: str, values: NDArray[np.float64]) -> body.Body:
    """(rows, h, w), (rows, h, w, channels) or (rows, channels, h, w), in this order of guesses."""
    import numpy as np

    if values.ndim == 3:
        values = values[..., None]
    if values.shape[3] in CHANNELS:
        values = np.ascontiguousarray(values.transpose(0, 3, 1, 2))
    elif values.shape[1] not in CHANNELS:
        raise errors.invalid(
            "kind",
            f"array {quoted(name)} of shape {values.shape} has no axis of 1, 3 or 4 channels, "
            "last or second: is it of images?",
        )
    channels, height, width = values.shape[1:]
    places = [(c, h, w) for c in range(channels) for h in range(height) for w in range(width)]
    names = [f"pixel_{h}_{w}" + f"_{c}" * (channels > 1) for c, h, w in places]
    notes = [f"Images of {height}x{width} pixels, {channels} channel{'s' * (channels > 1)}."]
    return body.Body(values, [channels, height, width], names, [], None, notes)
