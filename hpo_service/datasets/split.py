"""Which rows are held out of the search, and whether the rest can be cross-validated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpo_service import errors, protocol
from hpo_service.datasets.table import Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.int64]

# With fewer distinct rows than this share, equal rows are what coarse data looks like, no copies.
COARSE = 0.1
VALIDATION = "objective.validation"
FOLDS = f"{VALIDATION}.folds"


def settled(schema: protocol.DatasetSchema, validation: protocol.Validation) -> protocol.Validation:
    """With the method filled in; raises `InvalidRequest` where the data rules it out."""
    method: protocol.ValidationMethod = "time_series" if schema.ordered else "k_fold"
    if validation.method not in (None, method):
        reason = (
            "the rows stand in the order of time, and folds drawn at random would train on the "
            "future of what they score"
            if schema.ordered
            else "the rows stand in no order of time"
        )
        raise errors.invalid(f"{VALIDATION}.method", f"{reason}: take {method}, or leave it out")
    if schema.ordered and validation.repeats > 1:
        raise errors.invalid(
            f"{VALIDATION}.repeats", "time_series draws nothing, so a repeat would be the same: 1"
        )
    if validation.stratify and (schema.ordered or not has_strata(schema)):
        raise errors.invalid(
            f"{VALIDATION}.stratify",
            "only k_fold of one class per row can be stratified: leave it out",
        )
    return validation.model_copy(update={"method": method})


def has_strata(schema: protocol.DatasetSchema) -> bool:
    """Whether each row has one class."""
    return schema.task == "classification" and not schema.per_step


def held_out(table: Table, share: float) -> Rows:
    """The rows to hold out, as sorted indices; none for a share of 0.

    The table's content and the share alone decide. In the order of time they are the last ones.
    Else each class gives up its share of rows, one
    row of it always stays, and exact copies of a row go to the same side. Own code rather than
    scikit-learn's: theirs knows no such groups, and may draw otherwise in its next release.
    """
    import numpy as np

    if table.schema.ordered:
        rows = table.schema.rows
        return np.arange(rows - round(rows * share), rows)
    # A bit generator's stream is part of NumPy's promise of compatibility, shuffles are not.
    stream = np.random.PCG64(np.random.SeedSequence(int(table.sha256, 16)))
    groups = equal_rows(table)
    if groups.max() + 1 < COARSE * table.schema.rows:
        groups = np.arange(table.schema.rows)
    order = stream.random_raw(table.schema.rows)
    strata = _strata(table)
    chosen = [
        _draw(np.flatnonzero(strata == stratum), quota, groups, order)
        for stratum, quota in enumerate(_quotas(np.bincount(strata), share))
    ]
    return np.sort(np.concatenate(chosen))


def equal_rows(table: Table) -> Rows:
    """A number per row from 0, the same for rows equal in every column and in the target."""
    import numpy as np

    rows = table.schema.rows
    parts = (table.numeric, table.categorical, table.target.reshape(rows, -1))
    raw = [np.ascontiguousarray(part).view(np.uint8).reshape(rows, -1) for part in parts]
    joined = np.ascontiguousarray(np.hstack(raw))
    lines = joined.view(np.dtype((np.void, joined.shape[1]))).ravel()
    groups: Rows = np.unique(lines, return_inverse=True)[1]
    return groups


def _strata(table: Table) -> Rows:
    """A number per row: its class; 0 throughout where a row has none or several."""
    import numpy as np

    plain = has_strata(table.schema)
    strata: Rows = table.target if plain else np.zeros(table.schema.rows, np.int64)
    return strata


def _quotas(sizes: Rows, share: float) -> Rows:
    """How many rows each stratum gives up: largest remainders, so that the total is right."""
    import numpy as np

    exact = sizes * share
    quotas = np.floor(exact).astype(np.int64)
    missing = round(float(exact.sum())) - int(quotas.sum())
    quotas[np.argsort(quotas - exact, kind="stable")[:missing]] += 1
    capped: Rows = np.minimum(quotas, np.maximum(sizes - 1, 0))
    return capped


def _draw(members: Rows, quota: int, groups: Rows, order: NDArray[np.uint64]) -> Rows:
    """Up to `quota` of the members: whole groups, in random order, as long as they fit."""
    import numpy as np

    shuffled = members[np.argsort(order[members], kind="stable")]
    # Groups in the order of their first member in the shuffle.
    _, first, inverse, sizes = np.unique(
        groups[shuffled], return_index=True, return_inverse=True, return_counts=True
    )
    taken = np.zeros(len(sizes), bool)
    for group in np.argsort(first, kind="stable"):
        if sizes[group] <= quota:
            taken[group] = True
            quota -= int(sizes[group])
        if quota == 0:
            break
    return shuffled[taken[inverse]]


def check_held_out(table: Table, share: float, rows: Rows) -> None:
    """Refuse a held-out part that is too small to score on, by its rows."""
    needed = max(2, len(table.schema.classes)) if has_strata(table.schema) else 2
    if share > 0 and len(rows) < needed:
        raise errors.invalid(
            "objective.holdout",
            f"{share:g} of {table.schema.rows:,} rows holds out {len(rows)}, too few to score "
            f"(at least {needed}): take a larger share, or 0 to hold out none",
        )


def check_folds(search: Table, validation: protocol.Validation) -> None:
    """Refuse more folds than the search part allows; raises `InvalidRequest`."""
    schema = search.schema
    if has_strata(schema) and not schema.ordered and validation.stratify is not False:
        _check_classes(search, validation.folds)
    # The first fold in time trains on rows before it, which no fold scores.
    pieces = validation.folds + schema.ordered
    # R2 of a single row is not defined, so each fold of a regression needs two.
    needed = pieces if schema.task == "classification" else 2 * pieces
    if search.schema.rows < needed:
        raise errors.invalid(
            FOLDS,
            f"{validation.folds} folds need at least {needed} rows, but the search part has "
            f"{search.schema.rows}: take fewer folds",
        )


def _check_classes(search: Table, folds: int) -> None:
    import numpy as np

    sizes = np.bincount(search.target, minlength=len(search.schema.classes))
    rarest = int(sizes.argmin())
    size = int(sizes[rarest])
    if size < folds:
        fewer = f"take at most {size} folds" if size > 1 else "remove its rows from the data"
        raise errors.invalid(
            FOLDS,
            f"{folds} stratified folds need {folds} rows of each class, but class "
            f"{search.schema.classes[rarest]!r} has {size} in the search part: {fewer}, "
            'or set "stratify": false',
        )
