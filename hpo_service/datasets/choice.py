"""Which columns of a table are worth training on, and what looks odd about them."""

from __future__ import annotations

import re

from hpo_service import errors
from hpo_service.datasets.columns import Column, Textual
from hpo_service.datasets.csv_file import FIELD, quoted
from hpo_service.datasets.sheet import Places

# A text column with more different texts is no set of categories: every one becomes an input.
MAX_CATEGORIES = 1_000
# Up to so many different texts a small table may have in a column, all of them different or not.
FEW = 20
# A category of fewer rows is hardly in every training fold.
RARE = 5
DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
AS_NUMBERS = "(name it in `numeric` to take such texts as missing)"


def choose(columns: list[Column], places: Places) -> tuple[list[Column], list[str]]:
    """The columns worth training on, and a sentence for each that is not or looks odd.

    Raises `InvalidRequest` where no column is left.
    """
    kept, warnings = [], []
    for column in columns:
        useless = _useless(column, places)
        if useless is None:
            kept.append(column)
            found = _oddities(column, places)
        else:
            found = [f"{useless}: left out"]
        warnings += [f"Column {quoted(column.name)} {finding}." for finding in found]
    if not kept:
        raise errors.invalid(
            FIELD, f"no column is left to learn from besides the target. {' '.join(warnings)}"
        )
    return kept, warnings


def _useless(column: Column, places: Places) -> str | None:
    missing = column.missing()
    if missing.all():
        return "has no value in any row"
    if isinstance(column, Textual):
        return _useless_text(column, int((~missing).sum()), places)
    constant = not missing.any() and column.values.min() == column.values.max()
    return "has the same value in all rows" if constant else None


def _useless_text(column: Textual, known: int, places: Places) -> str | None:
    different, rows = len(column.texts), len(column.codes)
    if known == 1:
        return "has a value in one row only"
    if different == 1:
        # With missing values beside it, it still tells those apart.
        return "has the same value in all rows" if known == rows else None
    like_an_id = different == known or (different > FEW and different > known / 2)
    if not like_an_id and different <= MAX_CATEGORIES:
        return None
    outlier = _outlier(column, places)
    if outlier:
        return f"{outlier}, so that it cannot be read as numbers {AS_NUMBERS}"
    return f"has {different:,} different texts (like {quoted(column.texts[0])}), " + (
        "dates (name it in `order_by` if the rows are to stand in the order of time)"
        if all(map(DATE.match, column.texts))
        else "an id or free text (name it in `text` to learn from its words)"
        if like_an_id
        else "more than can be told apart"
    )


def _oddities(column: Column, places: Places) -> list[str]:
    import numpy as np

    odd = []
    missing = column.missing()
    if missing.mean() > 0.5:
        odd.append(f"is empty in {missing.mean():.0%} of the rows")
    if isinstance(column, Textual):
        return odd + _odd_texts(column, places)
    if column.decimal_comma:
        odd.append("is written with decimal commas: 1,5 is read as 1.5")
    if len(missing) > 2 and (np.diff(column.values) == 1).all():
        odd.append("counts the rows: remove it if it is only a row number")
    return odd


def _odd_texts(column: Textual, places: Places) -> list[str]:
    import numpy as np

    odd = []
    outlier = _outlier(column, places)
    if outlier:
        odd.append(f"{outlier}, so that it is read as categories {AS_NUMBERS}")
    rare = int((np.bincount(column.codes[column.codes >= 0]) < RARE).sum())
    if rare and len(column.texts) > 2:
        odd.append(
            f"has {rare:,} of {len(column.texts):,} categories in fewer than {RARE} rows each: "
            "little can be learnt of them, merge them if they have something in common"
        )
    return odd


def _outlier(column: Textual, places: Places) -> str | None:
    found = column.first_text_that_is_no_number()
    if found is None:
        return None
    text, row = found
    return f"has numbers for the most part, but {places.of(row)} has {quoted(text)}"
