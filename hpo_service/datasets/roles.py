"""Columns that say something about the rows and are no inputs: weight, group, test part, order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hpo_service import errors, protocol
from hpo_service.datasets import columns
from hpo_service.datasets.columns import Column, Numeric, Textual
from hpo_service.datasets.csv_file import quoted
from hpo_service.datasets.sheet import Sheet
from hpo_service.datasets.table import Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEST = frozenset(("1", "true", "yes", "test"))
NO_TEST = frozenset(("0", "false", "no", "train", ""))


@dataclass(frozen=True, eq=False)
class Roles:
    """What there is of each row beside inputs and target, as `Table` holds it."""

    weight: NDArray[np.float64] | None
    group: NDArray[np.int64] | None
    test: NDArray[np.uint8] | None
    ordered: bool

    def given_to(self, table: Table) -> Table:
        flags = {
            "weighted": self.weight is not None,
            "grouped": self.group is not None,
            "tested": self.test is not None,
            "ordered": self.ordered,
        }
        schema = table.schema.model_copy(update=flags)
        return replace(table, schema=schema, weight=self.weight, group=self.group, test=self.test)


def names(upload: protocol.Upload) -> dict[str, str]:
    """The columns that an upload gives a role, by the role's field."""
    fields = ("weight", "group", "test", "order_by")
    given = {field: getattr(upload, field) for field in fields}
    return {field: name for field, name in given.items() if name is not None}


def read(sheet: Sheet, upload: protocol.Upload, ordered: bool) -> Roles:
    """What the columns say of each row; `ordered`: they stand in the order of time.

    Raises `InvalidRequest` about the column that does not fit, with the line."""
    return Roles(
        weight=_weight(sheet, upload.weight) if upload.weight else None,
        group=_codes(sheet.complete("group", upload.group)) if upload.group else None,
        test=_test(sheet, upload.test) if upload.test else None,
        ordered=ordered,
    )


def order(sheet: Sheet, field: str, name: str) -> NDArray[np.float64]:
    """What rows are sorted by: numbers as they are, dates as seconds since 1970."""
    import numpy as np
    import pandas as pd

    column = sheet.complete(field, name)
    if isinstance(column, Numeric):
        return column.values
    dates = pd.to_datetime(pd.Series(column.texts), format="ISO8601", utc=True, errors="coerce")
    sheet.refuse(
        field,
        column,
        np.asarray(dates.isna())[column.codes],
        "is neither a number nor a date like 2024-01-31 or 2024-01-31T18:00",
    )
    seconds = dates.astype("datetime64[ns, UTC]").astype(np.int64).to_numpy() / 1e9
    found: NDArray[np.float64] = seconds[column.codes]
    return found


def _weight(sheet: Sheet, name: str) -> NDArray[np.float64]:

    column = sheet.complete("weight", name)
    if isinstance(column, Textual):
        column, odd = columns.parsed(column, sheet.decimal_comma)
        sheet.refuse("weight", column, column.missing(), f"has {quoted(odd[0])} for a number")
    sheet.refuse("weight", column, column.values <= 0, "has a weight that is not above 0")
    return column.values


def _codes(column: Column) -> NDArray[np.int64]:
    import numpy as np

    values: NDArray[Any] = column.values if isinstance(column, Numeric) else column.codes
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _test(sheet: Sheet, name: str) -> NDArray[np.uint8]:
    import numpy as np

    column = sheet.column("test", name)
    if isinstance(column, Numeric):
        known = column.missing() | np.isin(column.values, (0, 1))
        chosen = column.values == 1
    else:
        words = [text.lower() for text in [*column.texts, ""]]  # the last serves code -1
        known = np.array([word in TEST | NO_TEST for word in words])[column.codes]
        chosen = np.array([word in TEST for word in words])[column.codes]
    sheet.refuse("test", column, ~known, "has neither 1, true or test nor 0, false or train")
    if chosen.all() or not chosen.any():
        which = "all rows are" if chosen.all() else "no row is"
        raise errors.invalid("test", f"by column {quoted(name)} {which} of the test part")
    return np.asarray(chosen, np.uint8)
