"""How the search part is to be validated, and whether it can be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hpo_service import errors, protocol
from hpo_service.datasets.table import Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Sizes = NDArray[np.int64]

VALIDATION = "objective.validation"
FOLDS = f"{VALIDATION}.folds"
SHARE = f"{VALIDATION}.share"
# Each row left out is one more training: beyond so many the folds of k_fold say as much.
MOST_LEFT_OUT = 500
DRAWN: tuple[protocol.ValidationMethod, ...] = ("k_fold", "hold_out")


def settled(schema: protocol.DatasetSchema, validation: protocol.Validation) -> protocol.Validation:
    """With the method filled in; raises `InvalidRequest` where the data rules it out."""
    method = validation.method or ("time_series" if schema.ordered else "k_fold")
    _check_order(schema, method)
    if method not in DRAWN and validation.repeats > 1:
        raise errors.invalid(
            f"{VALIDATION}.repeats", f"{method} draws nothing, so a repeat would be the same: 1"
        )
    if validation.stratify:
        _check_stratify(schema, method)
    return validation.model_copy(update={"method": method})


def _check_order(schema: protocol.DatasetSchema, method: protocol.ValidationMethod) -> None:
    if schema.ordered and schema.grouped:
        raise errors.invalid(
            "objective.dataset",
            "its rows stand in the order of time and in groups, and no folds heed both: "
            "upload it with one of the two",
        )
    if schema.ordered == (method == "time_series"):
        return
    reason, instead = (
        (
            "the rows stand in the order of time, and other folds would train on the future of "
            "what they score",
            "time_series",
        )
        if schema.ordered
        else ("the rows stand in no order of time", "k_fold")
    )
    raise errors.invalid(f"{VALIDATION}.method", f"{reason}: take {instead}, or leave it out")


def _check_stratify(schema: protocol.DatasetSchema, method: protocol.ValidationMethod) -> None:
    field = f"{VALIDATION}.stratify"
    if method not in DRAWN or not has_strata(schema):
        reason = "only k_fold and hold_out of one class per row can be stratified: leave it out"
        raise errors.invalid(field, reason)
    if method == "hold_out" and schema.grouped:
        raise errors.invalid(
            field, "whole groups are held out, whatever their classes: leave it out, or take k_fold"
        )


def has_strata(schema: protocol.DatasetSchema) -> bool:
    """Whether each row has one class."""
    return schema.task == "classification" and not schema.per_step


def fitting(search: Table, validation: protocol.Validation) -> protocol.Validation:
    """As the search part allows it; raises `InvalidRequest` where that has too few rows, classes or
    groups. With leave_one_out `folds` are those of fresh folds: at most as many as can be left out.
    """
    if validation.method == "leave_one_out":
        count = _left_out(search)
        return validation.model_copy(update={"folds": min(validation.folds, count)})
    if validation.method == "hold_out":
        _check_hold_out(search, validation)
    else:
        _check_pieces(search, validation)
    return validation


def _check_pieces(search: Table, validation: protocol.Validation) -> None:
    schema, folds = search.schema, validation.folds
    if has_strata(schema) and not schema.ordered and validation.stratify is not False:
        _check_classes(search, folds)
    if search.group is not None and (groups := len(_sizes(search.group))) < folds:
        fewer = f"take at most {groups} folds" if groups > 1 else "leave the groups out of the data"
        raise errors.invalid(
            FOLDS, f"{folds} folds need {folds} groups, but the search part has {groups}: {fewer}"
        )
    # The first fold in time trains on rows before it, which no fold scores.
    pieces = folds + schema.ordered
    # R2 of a single row is not defined, so each fold of a regression needs two.
    needed = pieces if schema.task == "classification" else 2 * pieces
    if schema.rows < needed:
        raise errors.invalid(
            FOLDS,
            f"{folds} folds need at least {needed} rows, but the search part has {schema.rows}: "
            "take fewer folds",
        )


def _check_hold_out(search: Table, validation: protocol.Validation) -> None:
    """Both sides need two rows, or groups, and a stratified draw one row of each class."""
    schema, needed = search.schema, 2
    if search.group is not None:
        things, count, needed = "groups", len(_sizes(search.group)), 1
    else:
        things, count = "rows", schema.rows
        if has_strata(schema) and validation.stratify is not False:
            _check_classes(search, 2)
            needed = max(2, len(schema.classes))
    held = math.ceil(validation.share * count)
    if min(held, count - held) < needed:
        raise errors.invalid(
            SHARE,
            f"{validation.share:g} of {count:,} {things} leaves {count - held} to train on and "
            f"{held} to score (at least {needed} each): take another share, or k_fold",
        )


def _left_out(search: Table) -> int:
    """How many rows or groups there are to leave out."""
    things, count = "rows", search.schema.rows
    if search.group is not None:
        things, count = "groups", len(_sizes(search.group))
    if not 2 <= count <= MOST_LEFT_OUT:
        raise errors.invalid(
            f"{VALIDATION}.method",
            f"leave_one_out trains once for each of the {count:,} {things} of the search part, "
            f"of 2 to {MOST_LEFT_OUT}: take k_fold",
        )
    return count


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


def _sizes(group: NDArray[np.int64]) -> Sizes:
    import numpy as np

    sizes: Sizes = np.unique(group, return_counts=True)[1]
    return sizes
