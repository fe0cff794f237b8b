"""Series in long format, windows to forecast from, and columns of text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from hpo_service.datasets import body, text_column
from tests.uploads import csv_of, refused, taken

LONG = """id,t,a,b,y
u,2,20,200,no
v,2024,5,,yes
u,1,10,100,no
w,7,1,1,yes
u,3,30,300,no
x,1,4,4,no
x,2,5,5,
"""


def long(text: str = LONG, **query: Any) -> Any:
    return taken(text.encode(), id="id", time="t", **query)


# --- long format ----------------------------------------------------------------------------


def test_lines_of_one_id_are_one_series_in_the_order_of_time() -> None:
    table, notes = long()
    assert (table.schema.rows, table.schema.shape) == (4, [3, 2])
    nan = np.nan
    np.testing.assert_array_equal(
        table.numeric,
        [
            [10, 100, 20, 200, 30, 300],
            [5, nan, nan, nan, nan, nan],
            [1, 1, nan, nan, nan, nan],
            [4, 4, 5, 5, nan, nan],
        ],
    )
    assert [table.schema.classes[code] for code in table.target] == ["no", "yes", "yes", "no"]
    assert table.schema.columns[1].name == "step_0_b"
    assert "4 series of up to 3 steps, told apart by 'id'." in notes


def test_the_order_of_the_lines_does_not_matter() -> None:
    header, *lines = LONG.splitlines()
    # Series stand in the order in which they come first.
    moved = [lines[2], lines[1], lines[3], lines[6], lines[0], lines[4], lines[5]]
    assert long("\n".join([header, *moved]))[0].sha256 == long()[0].sha256


def test_dates_are_a_time() -> None:
    dated = LONG.replace(",t,", ",t,").replace("u,2,", "u,2024-02-01,")
    dated = dated.replace("u,1,", "u,2024-01-31T12:00,").replace("u,3,", "u,2024-03-01,")
    dated = dated.replace("w,7,", "w,2024-01-01,").replace("v,2024,", "v,2024-01-01,")
    dated = dated.replace("x,1,", "x,2024-01-01,").replace("x,2,", "x,2025-01-01,")
    assert long(dated)[0].sha256 == long()[0].sha256


def test_weight_and_group_are_those_of_the_series() -> None:
    lines = [f"s{i // 2},{i % 2},{i},{1 + i // 2},g{i // 4},{'pq'[i // 2 % 2]}" for i in range(16)]
    table, _ = long("\n".join(["id,t,a,w,g,y", *lines]), weight="w", group="g")
    assert table.weight is not None
    assert table.group is not None
    assert table.weight.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert table.group.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert table.schema.shape == [2, 1]


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        (LONG.replace("u,3,30,300,no", "u,3,30,300,yes"), "target", "in line 6"),
        (LONG.replace("u,3,", "u,2,"), "time", "had before in line 6"),
        (LONG.replace("u,3,", ",3,"), "id", "is empty in line 6"),
        (LONG.replace("u,3,", "u,,"), "time", "is empty in line 6"),
        (LONG.replace("u,3,", "u,soon,"), "time", "neither a number nor a date"),
        ("id,t,a,y\nu,1,x,no\nv,1,y,yes\n", "file", "no column of numbers"),
    ],
)
def test_lines_that_make_no_series_are_refused(text: str, field: str, message: str) -> None:
    error = refused(text.encode(), id="id", time="t")
    assert error.fields[0].field == field
    assert message in error.message


def test_series_that_would_not_fit_in_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # One long series among short ones: nearly all of the rectangle is padding.
    monkeypatch.setattr(body, "MAX_CELLS", 20)
    assert "more than 20 in all" in refused(LONG.encode(), id="id", time="t").message


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"id": "id"}, "time"),
        ({"time": "t"}, "id"),
        ({"id": "id", "time": "t", "order_by": "a"}, "order_by"),
        ({"id": "id", "time": "t", "text": "b"}, "id"),
        ({"forecast": 2, "text": "b"}, "forecast"),
        ({"forecast": 2, "weight": "b"}, "weight"),
        ({"text": "y"}, "text"),
        ({"id": "y", "time": "t"}, "id"),
    ],
)
def test_options_that_do_not_go_together_are_refused(query: dict[str, Any], field: str) -> None:
    assert refused(LONG.encode(), **query).fields[0].field == field


# --- forecasts ------------------------------------------------------------------------------


def test_a_forecast_is_of_windows_in_the_order_of_time() -> None:
    days = pd.date_range("2024-01-01", periods=10)[::-1]
    data = csv_of(day=days, sold=np.arange(10.0)[::-1], rain=np.arange(10.0)[::-1] / 10)
    table, _ = taken(data, "sold", forecast=3, order_by="day")
    assert (table.schema.shape, table.schema.ordered, table.schema.rows) == ([3, 2], True, 7)
    assert table.numeric[0].tolist() == [0, 0, 1, 0.1, 2, 0.2]
    assert table.target.tolist() == [3, 4, 5, 6, 7, 8, 9]


def test_windows_with_a_gap_are_left_out() -> None:
    table, notes = taken(csv_of(v=[0, 1, 2, None, *range(4, 12)]), "v", forecast=2, drop=[])
    assert table.target.tolist() == [2, 6, 7, 8, 9, 10, 11]
    assert "3 windows have a missing number: left out." in notes


def test_a_forecast_needs_numbers_and_enough_rows() -> None:
    data = csv_of(v=range(5), s=list("abcde"))
    assert "more than 5 rows, not 5" in refused(data, "v", forecast=5).message
    assert "holds texts" in refused(data, "s", forecast=2).message


# --- texts ----------------------------------------------------------------------------------

REVIEWS = ["Good, GOOD film!", "it's bad", "", "bad film 2"] * 5
VERDICTS = ["up", "down", "up", "down"] * 5


def test_a_column_of_texts_is_codes_of_its_words() -> None:
    table, notes = taken(csv_of(review=REVIEWS, stars=range(20), y=VERDICTS), text="review")
    assert table.schema.symbols == ["2", "bad", "film", "good", "it's", ""]
    assert table.categorical[:4].tolist() == [[3, 3, 2], [4, 1, -1], [-1, -1, -1], [1, 2, 0]]
    assert (table.schema.shape, table.schema.columns) == ([3], [])
    assert "5 rows have no words in 'review': empty texts." in notes
    assert "'stars'" in notes


def test_a_column_of_texts_may_be_characters() -> None:
    table, _ = taken(csv_of(t=["Ab", "ba"] * 10, y=VERDICTS), text="t", symbols="characters")
    assert table.schema.symbols == ["A", "a", "b", ""]
    assert table.categorical[:2].tolist() == [[0, 2], [2, 1]]


def test_the_rarest_words_are_taken_as_one_and_long_texts_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(text_column, "MAX_SYMBOLS", 2)
    monkeypatch.setattr(text_column, "MAX_STEPS", {"words": 2})
    table, notes = taken(csv_of(t=["b b a", "a c d"] * 10, y=VERDICTS), text="t")
    assert table.schema.symbols == ["a", "b", ""]
    assert table.categorical[:2].tolist() == [[1, 1], [0, 2]]
    assert "The rarest 2 words are taken as one." in notes
    assert "20 texts have more than 2 words: cut after them." in notes


def test_texts_that_are_numbers_are_texts() -> None:
    table, _ = taken(csv_of(t=["007", "42"] * 10, y=VERDICTS), text="t")
    assert table.schema.symbols == ["007", "42", ""]


def test_texts_without_words_are_refused() -> None:
    assert "has no words" in refused(csv_of(t=["!", "?!"] * 10, y=VERDICTS), text="t").message
