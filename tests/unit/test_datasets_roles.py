"""Columns that say something about the rows, types that a user corrects, and what looks odd."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.uploads import csv_of, refused, taken

ROWS = 60
YES_NO = ["no", "yes"] * (ROWS // 2)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=ROWS)


def columns(**more: Any) -> bytes:
    return csv_of(x=noise(), y=YES_NO, **more)


# --- roles ----------------------------------------------------------------------------------


def test_weight_group_and_test_are_no_inputs() -> None:
    data = columns(
        w=np.arange(1, ROWS + 1) / 2,
        g=[f"patient {i // 6}" for i in range(ROWS)],
        part=["test" if i >= 50 else "train" for i in range(ROWS)],
    )
    table, _ = taken(data, weight="w", group="g", test="part")
    schema = table.schema
    assert [column.name for column in schema.columns] == ["x"]
    assert (schema.weighted, schema.grouped, schema.tested, schema.ordered) == (True,) * 3 + (
        False,
    )
    assert table.weight is not None
    assert table.group is not None
    assert table.test is not None
    assert table.weight[:2].tolist() == [0.5, 1.0]
    assert len(set(table.group[:6].tolist())) == 1
    assert len(set(table.group.tolist())) == 10
    assert np.flatnonzero(table.test).tolist() == [*range(50, 60)]


def test_rows_are_sorted_by_the_column_of_their_order() -> None:
    days = pd.date_range("2024-01-01", periods=ROWS).strftime("%Y-%m-%d")[::-1]
    table, _ = taken(columns(day=days), order_by="day")
    assert table.schema.ordered
    np.testing.assert_array_equal(table.numeric[:, 0], noise()[::-1])
    numbered, _ = taken(columns(day=range(ROWS, 0, -1)), order_by="day")
    assert numbered.sha256 == table.sha256


def test_roles_follow_the_rows_that_have_a_target() -> None:
    data = csv_of(x=noise(), y=[None, *YES_NO[1:]], w=range(ROWS), d=range(ROWS, 0, -1))
    table, _ = taken(data, weight="w", order_by="d")
    assert table.weight is not None
    assert table.weight.tolist() == [*range(ROWS - 1, 0, -1)]


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ([0, *[1] * 59], "weight", "not above 0 in line 2"),
        ([*[1] * 59, -2], "weight", "not above 0 in line 61"),
        ([1, None, *[1] * 58], "weight", "is empty in line 3"),
        ([*[1] * 59, "heavy"], "weight", "has 'heavy' for a number in line 61"),
        ([None, *[1] * 59], "group", "is empty in line 2"),
        ([*[0, 1] * 29, 0, 2], "test", "in line 61"),
        ([1] * 60, "test", "all rows are"),
        (["train"] * 60, "test", "no row is"),
        (["2024-01-01", *["01.02.2024"] * 59], "order_by", "neither a number nor a date"),
        (["2024-01-01", None, *["2024-01-02"] * 58], "order_by", "is empty in line 3"),
    ],
)
def test_a_role_that_does_not_fit_is_refused(
    values: list[object], field: str, message: str
) -> None:
    error = refused(columns(r=values), **{field: "r"})
    assert error.fields[0].field == field
    assert message in error.message


def test_a_role_needs_a_column_of_its_own() -> None:
    assert "there is no column 'z'" in refused(columns(), group="z").message
    assert "is the target" in refused(columns(), group="y").message
    assert "is the target" in refused(columns(), drop=["y"]).message
    assert refused(columns(), drop=["z"]).fields[0].field == "drop"


# --- corrected types ------------------------------------------------------------------------


def test_a_text_among_numbers_is_named_and_may_be_taken_as_missing() -> None:
    data = columns(size=[*range(20), "n.a.", *range(20), "?!", *range(18)])
    _, notes = taken(data)
    assert "line 22 has 'n.a.'" in notes
    assert "`numeric`" in notes
    table, notes = taken(data, numeric=["size"])
    assert [column.kind for column in table.schema.columns] == ["numeric", "numeric"]
    assert np.flatnonzero(np.isnan(table.numeric[:, 1])).tolist() == [20, 41]
    assert "'size': 2 of its values are no numbers, taken as missing: the first" in notes
    assert "'n.a.' in line 22" in notes


def test_numbers_may_be_categories_as_they_are_written() -> None:
    data = columns(code=["01", "1", "10"] * 20)
    assert taken(data)[0].schema.columns[1].kind == "numeric"
    column = taken(data, categorical=["code"])[0].schema.columns[1]
    assert (column.kind, column.categories) == ("categorical", ["01", "1", "10"])
    assert "categorical too" in refused(data, categorical=["code"], numeric=["code"]).message


def test_columns_are_dropped() -> None:
    table, notes = taken(columns(z=noise(1), id=range(ROWS)), drop=["id", "z"])
    assert [column.name for column in table.schema.columns] == ["x"]
    assert "counts the rows" not in notes


# --- what looks odd -------------------------------------------------------------------------

Y = np.array([float(value == "yes") for value in YES_NO])


@pytest.mark.parametrize(
    "leak",
    [
        [{"no": "n", "yes": "j"}[value] for value in YES_NO],
        Y,
        10 * Y + noise(1),
        [None if value == "no" else 3 for value in YES_NO],
        [{"no": i % 3, "yes": 3 + i % 2}[value] for i, value in enumerate(YES_NO)],
    ],
)
def test_a_column_that_tells_the_class_is_named(leak: list[object]) -> None:
    _, notes = taken(columns(z=noise(2), leak=leak))
    assert "Column 'leak' alone tells the target of every row: may be a leak." in notes
    assert "Column 'z' alone" not in notes


@pytest.mark.parametrize("leak", [3 * noise(5) + 2, -noise(5), np.exp(noise(5))])
def test_a_column_that_tells_the_number_is_named(leak: np.ndarray) -> None:
    _, notes = taken(csv_of(x=noise(1) + noise(5), leak=leak, y=noise(5)))
    assert "Column 'leak' alone tells the target" in notes
    assert "Column 'x' alone" not in notes


def test_columns_that_only_help_are_no_leak() -> None:
    good = 2 * Y + noise(1)
    wrong_once = ["b" if i == 7 else "ab"[i % 2] for i in range(ROWS - 1)] + ["a"]
    _, notes = taken(
        columns(good=good, nearly=wrong_once, many=[f"c{i % 29}" for i in range(ROWS)])
    )
    assert "leak" not in notes


def test_few_rows_are_no_ground_to_speak_of_a_leak() -> None:
    assert "leak" not in taken(csv_of(x=range(10), y=["a"] * 5 + ["b"] * 5))[1]


def test_a_class_of_one_row_is_named() -> None:
    _, notes = taken(csv_of(x=noise(), y=["rare", *YES_NO[1:]]))
    assert "Class 'rare' has 1 row" in notes


def test_rare_categories_are_counted() -> None:
    _, notes = taken(columns(town=["a"] * 40 + ["b"] * 15 + ["c"] * 4 + ["d"]))
    assert "Column 'town' has 2 of 4 categories in fewer than 5 rows each" in notes


def test_dates_and_texts_are_left_out_with_what_to_do_about_them() -> None:
    days = pd.date_range("2024-01-01", periods=ROWS).astype(str)
    table, notes = taken(columns(day=days, note=[f"said {i}" for i in range(ROWS)]))
    assert [column.name for column in table.schema.columns] == ["x"]
    assert "Column 'day' has 60 different texts (like '2024-01-01'), dates" in notes
    assert "`order_by`" in notes
    assert "Column 'note' has 60 different texts (like 'said 0'), an id or free text" in notes


def test_notes_on_thousands_of_columns_are_cut() -> None:
    _, notes = taken(columns(**{f"c{i}": [1] * ROWS for i in range(300)}))
    assert len(notes.splitlines()) == 101
    assert "... and 201 more." in notes
