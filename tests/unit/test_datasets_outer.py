"""The outer folds of a nested cross-validation: apart from each other, and all rows together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.model_selection import KFold, StratifiedKFold

from hpo_service import errors, protocol
from hpo_service.datasets import DATASETS, Table, outer


def fold(number: int, folds: int = 5) -> protocol.Outer:
    return protocol.Outer(folds=folds, fold=number)


def all_parts(table: Table, folds: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    return [outer.parts(table, fold(number, folds)) for number in range(folds)]


def changed(table: Table, **flags: bool) -> Table:
    return replace(table, schema=table.schema.model_copy(update=flags))


def in_groups() -> Table:
    """Iris, whose classes stand one after another, in 30 groups of five neighbours."""
    return replace(changed(DATASETS["iris"].load(), grouped=True), group=np.arange(150) // 5)


def numbers_in_groups() -> Table:
    return replace(changed(DATASETS["diabetes"].load(), grouped=True), group=np.arange(442) // 7)


def twice(name: str) -> Table:
    table = DATASETS[name].load()
    rows = table.schema.rows
    return table.take(np.concatenate([np.arange(rows), np.arange(rows)]))


TABLES: dict[str, Callable[[], Table]] = {
    "classes": DATASETS["wine"].load,
    "numbers": DATASETS["diabetes"].load,
    "groups": in_groups,
    "groups of numbers": numbers_in_groups,
    "copies": lambda: twice("wine"),
    "a class per step": DATASETS["descriptions"].load,
    "an official test part": DATASETS["gunpoint"].load,
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_each_row_is_held_out_once_and_else_searched_on(table: Callable[[], Table]) -> None:
    loaded = table()
    every = np.arange(loaded.schema.rows)
    parts = all_parts(loaded)
    assert np.array_equal(np.sort(np.concatenate([held for _, held in parts])), every)
    for kept, held in parts:
        assert np.array_equal(np.union1d(kept, held), every)
        assert len(kept) + len(held) == len(every)
        assert (np.diff(kept) > 0).all()
        assert (np.diff(held) > 0).all()


@pytest.mark.parametrize(
    ("name", "kind"), [("wine", StratifiedKFold), ("diabetes", KFold)], ids=["classes", "numbers"]
)
def test_the_folds_are_scikit_learns(name: str, kind: type[KFold]) -> None:
    table = DATASETS[name].load()
    splitter = kind(4, shuffle=True, random_state=int(table.sha256, 16) % 2**32)
    theirs = splitter.split(table.target, table.target)
    for (kept, held), (train, test) in zip(all_parts(table, 4), theirs, strict=True):
        assert np.array_equal(kept, train)
        assert np.array_equal(held, test)


def test_groups_and_copies_are_on_one_side() -> None:
    for kept, held in all_parts(in_groups()):
        assert not set(kept // 5) & set(held // 5)
    for _, held in all_parts(twice("wine")):
        assert set(held[: len(held) // 2] + 178) == set(held[len(held) // 2 :])


def test_in_the_order_of_time_earlier_rows_are_searched_on() -> None:
    parts = all_parts(changed(DATASETS["diabetes"].load(), ordered=True))
    held_out = np.concatenate([held for _, held in parts])
    assert np.array_equal(held_out, np.arange(442 - len(held_out), 442))
    for kept, held in parts:
        assert np.array_equal(kept, np.arange(held[0]))


@pytest.mark.parametrize(
    ("table", "asked", "field", "message"),
    [
        (DATASETS["wine"].load(), fold(5), outer.FOLD, "are 0 to 4"),
        (DATASETS["wine"].load().take(np.arange(9)), fold(0), outer.FOLDS, "at least 10 rows"),
        (
            DATASETS["wine"].load().take(np.r_[0:20, 175:178]),
            fold(0),
            outer.FOLDS,
            "class 'class_1' has 0",
        ),
        (replace(in_groups(), group=np.arange(150) // 50), fold(0), outer.FOLDS, "5 groups"),
        (
            DATASETS["diabetes"].load().take(np.repeat(np.arange(4), 4)),
            fold(0),
            outer.FOLDS,
            "5 different rows, but the data has 4",
        ),
    ],
    ids=["no such fold", "few rows", "rare class", "few groups", "copies"],
)
def test_what_cannot_be_held_out_is_refused(
    table: Table, asked: protocol.Outer, field: str, message: str
) -> None:
    with pytest.raises(errors.InvalidRequest, match=message) as caught:
        outer.parts(table, asked)
    assert caught.value.fields[0].field == field
