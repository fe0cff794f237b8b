"""Which rows are held out of the search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpo_service import errors, protocol
from hpo_service.datasets.table import Table
from hpo_service.datasets.validating import has_strata

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.int64]

# Held out where nobody says otherwise; of fewer rows nothing, where there is a better way.
SHARE = 0.2
FEW_ROWS = 1_000
# With fewer distinct rows than this share, equal rows are what coarse data looks like, no copies.
COARSE = 0.1


def usual_share(schema: protocol.DatasetSchema) -> float:
    """What to hold out where nobody says, and predictions of unseen rows can tell the result.

    Nothing of small data: few held-out rows say little, and the search misses them (Tsamardinos,
    Greasidou and Borboudakis 2018). An official test part is there to be used, and
    in the order of time only later rows are unseen.
    """
    few = schema.rows < FEW_ROWS
    return 0.0 if few and not (schema.ordered or schema.per_step or schema.tested) else SHARE


def parts(table: Table, share: float) -> tuple[Rows, Rows]:
    """(rows to search on, rows to hold out); `InvalidRequest` where too few would be held out."""
    import numpy as np

    held = held_out(table, share)
    check_held_out(table, share, held)
    return np.setdiff1d(np.arange(table.schema.rows), held), held


def held_out(table: Table, share: float) -> Rows:
    """The rows to hold out, as sorted indices; none for a share of 0.

    The table's content and the share alone decide. Where there is an official test part, it is
    that part, whatever the share. In the order of time it is the last rows. Of groups whole ones,
    as many as fit. Else each class gives up its share of rows, one row of it always stays. Exact
    copies of a row go to the same side. Own code rather than scikit-learn's: theirs knows no
    copies, and may draw otherwise in its next release.
    """
    import numpy as np

    rows = table.schema.rows
    if share == 0:
        return np.empty(0, np.int64)
    if table.test is not None:
        return np.flatnonzero(table.test)
    if table.schema.ordered:
        return np.arange(rows - round(rows * share), rows)
    # A bit generator's stream is part of NumPy's promise of compatibility, shuffles are not.
    stream = np.random.PCG64(np.random.SeedSequence(int(table.sha256, 16)))
    copies = _copies(table)
    order = stream.random_raw(rows)
    strata = _strata(table)
    if table.group is not None:
        return _whole_groups(_connected(table.group, copies), strata, round(rows * share), order)
    chosen = [
        _draw(np.flatnonzero(strata == stratum), quota, copies, order)
        for stratum, quota in enumerate(_quotas(np.bincount(strata), share))
    ]
    return np.sort(np.concatenate(chosen))


def units(table: Table) -> Rows:
    """A number per row from 0, the same for rows that belong on one side: copies, and groups."""
    copies = _copies(table)
    return copies if table.group is None else _connected(table.group, copies)


def _copies(table: Table) -> Rows:
    """As `equal_rows`, but of coarse data, where equal rows are no copies, each by itself."""
    import numpy as np

    copies = equal_rows(table)
    return copies if copies.max() + 1 >= COARSE * len(copies) else np.arange(len(copies))


def _connected(group: Rows, copies: Rows) -> Rows:
    """A number per row from 0, the same for rows of one group and for rows with a copy there."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    groups = np.unique(group, return_inverse=True)[1]
    count = int(groups.max()) + 1
    size = count + int(copies.max()) + 1
    edges = coo_array((np.ones(len(groups), np.int8), (groups, count + copies)), (size, size))
    found = connected_components(edges, directed=False)[1][:count][groups]
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def _whole_groups(groups: Rows, strata: Rows, quota: int, order: NDArray[np.uint64]) -> Rows:
    """Up to `quota` rows: whole groups in random order, as long as they fit.

    Groups of the same most frequent class stand spread over that order, so that what is taken has
    about the classes of the whole.
    """
    import numpy as np

    first = np.unique(groups, return_index=True)[1]
    sizes = np.bincount(groups)
    counts = np.zeros((len(sizes), int(strata.max()) + 1), np.int64)
    np.add.at(counts, (groups, strata), 1)
    main = counts.argmax(1)
    place = np.empty(len(sizes))
    for stratum in np.unique(main):
        members = np.flatnonzero(main == stratum)
        drawn = members[np.argsort(order[first[members]], kind="stable")]
        place[drawn] = (np.arange(len(drawn)) + 0.5) / len(drawn)
    taken = np.zeros(len(sizes), bool)
    for group in np.lexsort((order[first], place)):
        if sizes[group] <= quota:
            taken[group] = True
            quota -= int(sizes[group])
    return np.flatnonzero(taken[groups])


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
    if share == 0 or len(rows) >= needed:
        return
    if table.test is not None:
        message = (
            f"the official test part has {len(rows)} rows, too few to score (at least {needed}): "
            "take 0 to search on all rows"
        )
    else:
        whole = " in whole groups" if table.group is not None else ""
        message = (
            f"{share:g} of {table.schema.rows:,} rows{whole} holds out {len(rows)}, too few to "
            f"score (at least {needed}): take a larger share, or 0 to hold out none"
        )
    raise errors.invalid("objective.holdout", message)
