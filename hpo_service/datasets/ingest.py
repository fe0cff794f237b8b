"""From an uploaded file to a table."""

from __future__ import annotations

from hpo_service import errors, protocol
from hpo_service.datasets import (
    arrays,
    assembly,
    choice,
    columns,
    leaks,
    long_format,
    npz_file,
    reading,
    roles,
    split,
    target,
    text_column,
    windows,
)
from hpo_service.datasets.body import Body
from hpo_service.datasets.csv_file import quoted
from hpo_service.datasets.sheet import Sheet
from hpo_service.datasets.table import Table

Notes = list[str]
# Target and roles, and of a table its columns; inputs that are no table; the target's name.
Parts = tuple[Sheet, Body | None, str, Notes]
MENTIONED_NOTES = 100
OF_ARRAYS = ("kind",)
NOT_OF_ARRAYS = ("text", "id", "time", "forecast", "numeric", "categorical", "drop")
NOT_THE_TARGET = ("text", "id", "time", "weight", "group", "test", "order_by", "drop")


def ingest(data: bytes, upload: protocol.Upload) -> tuple[Table, Notes]:
    """The table of a file, and sentences on what was left out or looks odd.

    Columns keep the file's order. A column is numeric if each of its values is a finite number;
    other columns are categorical. Empty, NA, N/A, NaN, null, none and ? mean missing. Rows
    without a target are left out. What `upload` says goes before what would be guessed.
    Raises `InvalidRequest` about `file` (with the line) or a field of `upload`.
    """
    arrays_alone = reading.format_of(data, upload.format) == "npz"
    _check(upload, arrays_alone)
    read = _read_arrays if arrays_alone else _read_columns
    return _finished(*read(data, upload), upload)


def _read_arrays(data: bytes, upload: protocol.Upload) -> Parts:
    found = arrays.split(npz_file.read(data), upload.target, roles.names(upload), upload.kind)
    found.sheet.refuse_infinite()
    if found.target is None:
        raise errors.invalid(
            target.FIELD, "is missing: name the array to predict, or call it y in the file"
        )
    return found.sheet, found.body, found.target, []


def _read_columns(data: bytes, upload: protocol.Upload) -> Parts:
    if upload.target is None:
        raise _no_target()
    as_text = {*upload.categorical, *([upload.text] if upload.text else [])}
    fewest = 1 if upload.forecast else 2
    whole = reading.sheet(data, upload.format, as_text, fewest)
    sheet, notes = _corrected(whole, upload)
    sheet, body = _rows(sheet, upload, upload.target)
    return sheet, body, upload.target, notes


def _check(upload: protocol.Upload, arrays_alone: bool) -> None:
    """Refuse what does not go together; `arrays_alone`: the file is an NPZ."""
    for field in NOT_OF_ARRAYS if arrays_alone else OF_ARRAYS:
        if getattr(upload, field):
            kind = "an NPZ file" if arrays_alone else "a file of columns"
            raise errors.invalid(field, f"does not go with {kind}: leave it out")
    if (upload.id is None) != (upload.time is None):
        missing, other = ("id", "time") if upload.id is None else ("time", "id")
        raise errors.invalid(missing, f"is missing beside {other}: series in long format need both")
    shapes = [name for name in ("text", "id", "forecast") if getattr(upload, name) is not None]
    if len(shapes) > 1:
        raise errors.invalid(shapes[1], f"does not go with {shapes[0]}: leave one out")
    if upload.id and upload.order_by:
        raise errors.invalid("order_by", "series in long format have no order: leave it out")
    for field in ("weight", "group", "test"):
        if upload.forecast and getattr(upload, field):
            raise errors.invalid(field, "does not go with forecast: leave it out")
    _check_target(upload)


def _check_target(upload: protocol.Upload) -> None:
    """Refuse a target that is to be something else, too."""
    for field in NOT_THE_TARGET:
        given = getattr(upload, field)
        if upload.target and upload.target in (given if isinstance(given, list) else [given]):
            raise errors.invalid(field, f"column {quoted(upload.target)} is the target")


def _no_target() -> errors.InvalidRequest:
    return errors.invalid(target.FIELD, "is missing: name the column to predict")


def _corrected(sheet: Sheet, upload: protocol.Upload) -> tuple[Sheet, Notes]:
    """Without the columns to drop, and with the types that the user says."""
    for field in ("drop", "numeric", "categorical"):
        for name in getattr(upload, field):
            sheet.column(field, name)
    both = set(upload.numeric) & set(upload.categorical)
    if both:
        raise errors.invalid("numeric", f"column {quoted(min(both))} is to be categorical too")
    sheet = sheet.without(upload.drop)
    notes = []
    for name in upload.numeric:
        column = sheet.column("numeric", name)
        if isinstance(column, columns.Textual):
            number, note = _as_numbers(sheet, column)
            sheet.columns[name] = number
            notes.append(note)
    sheet.refuse_infinite()
    return sheet, notes


def _as_numbers(sheet: Sheet, column: columns.Textual) -> tuple[columns.Numeric, str]:
    import numpy as np

    number, odd = columns.parsed(column, sheet.decimal_comma)
    rows = np.isin(column.codes, [column.texts.index(text) for text in odd])
    first = int(rows.argmax())
    return number, (
        f"Column {quoted(column.name)}: {int(rows.sum()):,} of its values are no numbers, taken "
        f"as missing: the first {quoted(column.texts[column.codes[first]])} "
        f"in {sheet.places.of(first)}."
    )


def _rows(sheet: Sheet, upload: protocol.Upload, name: str) -> tuple[Sheet, Body | None]:
    """The columns with a value for each row, and inputs that are more than columns."""
    used = roles.names(upload)
    if upload.id and upload.time:
        return long_format.gather(
            sheet, upload.id, upload.time, {"target": name, **used}, channels=None
        )
    if upload.text:
        return sheet, text_column.read(sheet, upload.text, upload.symbols, {name, *used.values()})
    if upload.forecast:
        if upload.order_by:
            order = roles.order(sheet, "order_by", upload.order_by)
            sheet = sheet.take(order.argsort(kind="stable"))
        return windows.cut(sheet, name, upload.forecast, upload.order_by)
    return sheet, None


def _finished(
    sheet: Sheet, body: Body | None, name: str, notes: Notes, upload: protocol.Upload
) -> tuple[Table, Notes]:
    import numpy as np

    rows = np.flatnonzero(~sheet.column(target.FIELD, name).missing())
    warnings = _without_target(name, sheet.rows - len(rows))
    if not len(rows):
        raise errors.invalid(target.FIELD, f"column {quoted(name)} has no value in any row")
    if upload.order_by and not upload.forecast:
        keys = roles.order(sheet, "order_by", upload.order_by)
        rows = rows[keys[rows].argsort(kind="stable")]
    sheet, body = sheet.take(rows), body.take(rows) if body else None
    column = sheet.column(target.FIELD, name)
    goal = target.infer(column, sheet.places, upload.task)
    table, found = _table(sheet, body, upload, column.name, goal)
    rest = [*_rare_classes(goal), *_copies(table), *notes, *found]
    return table, _shortened([goal.note, *warnings, *rest])


def _shortened(notes: Notes) -> Notes:
    """A file of thousands of columns may have one for each."""
    left = len(notes) - MENTIONED_NOTES
    return [*notes[:MENTIONED_NOTES], f"... and {left:,} more."] if left > 0 else notes


def _without_target(name: str, missing: int) -> Notes:
    return [f"{_count(missing)} without a target: left out."] if missing else []


def _table(
    sheet: Sheet, body: Body | None, upload: protocol.Upload, name: str, goal: target.Target
) -> tuple[Table, Notes]:
    if body is None:
        left = sheet.without([name, *roles.names(upload).values()])
        kept, notes = choice.choose(list(left.columns.values()), sheet.places)
        notes += leaks.warnings(kept, goal.values, len(goal.classes))
        table = assembly.of_columns(kept, name, goal)
    else:
        table, notes = assembly.of_body(body, name, goal), body.notes
    ordered = upload.order_by is not None or upload.forecast is not None
    return roles.read(sheet, upload, ordered).given_to(table), notes


def _rare_classes(goal: target.Target) -> Notes:
    import numpy as np

    if not goal.classes:
        return []
    sizes = np.bincount(goal.values, minlength=len(goal.classes))
    alone = [name for name, size in zip(goal.classes, sizes, strict=True) if size == 1]
    if not alone:
        return []
    shown = ", ".join(map(quoted, alone[:5])) + (" ..." if len(alone) > 5 else "")
    what = f"Class {shown} has" if len(alone) == 1 else f"Classes {shown} have"
    return [
        f"{what} 1 row, which cannot be both learnt from and scored: "
        "gather more, merge it with another class, or remove it."
    ]


def _copies(table: Table) -> Notes:
    copies = table.schema.rows - 1 - int(split.equal_rows(table).max())
    return [f"{_count(copies)} equal to another row, target included."] if copies else []


def _count(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows:,} rows"
