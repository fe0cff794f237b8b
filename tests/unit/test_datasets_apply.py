"""New rows for a model: columns by name, categories by the model's codes, oddities counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hpo_service import errors, protocol
from hpo_service.datasets import Table
from hpo_service.datasets.apply import apply
from hpo_service.datasets.ingest import ingest

TRAINED = b"size,kind,note,price\n1,a,x,10\n2,b,y,20.5\n3,a,x,30\n4,,x,40\n"


def trained(data: bytes = TRAINED, target: str | None = "price", **more: Any) -> Table:
    return ingest(data, protocol.Upload(name="mine", target=target, **more))[0]


def schema(data: bytes = TRAINED, target: str = "price") -> protocol.DatasetSchema:
    return trained(data, target).schema


def test_the_file_a_model_was_trained_on_is_read_as_it_was() -> None:
    table, notes, _ = apply(TRAINED, schema())
    assert table.to_bytes() == trained().to_bytes()
    assert notes == []


def test_columns_are_found_by_name_and_the_target_may_be_missing() -> None:
    table, notes, _ = apply(b"id;note;kind;size\n7;y;b;1,5\n8;x;;2\n", schema())
    np.testing.assert_array_equal(table.numeric, [[1.5], [2.0]])
    np.testing.assert_array_equal(table.categorical, [[1, 1], [-1, 0]])
    assert np.isnan(table.target).all()
    assert table.schema.rows == 2
    assert notes == ["Not used by the model: 'id'."]


def test_what_the_model_does_not_know_is_missing_and_counted() -> None:
    table, notes, _ = apply(b"size,kind,note\nmany,c,x\n3,a,x\ninf,c,x\n", schema())
    np.testing.assert_array_equal(table.numeric, [[np.nan], [3.0], [np.nan]])
    np.testing.assert_array_equal(table.categorical, [[-1, 0], [0, 0], [-1, 0]])
    assert notes == [
        "Column 'size': 1 value is not a number (like 'many'): missing.",
        "Column 'size': 1 value is infinite: missing.",
        "Column 'kind': 2 values are not a category that the model knows (like 'c'): missing.",
    ]


def test_classes_and_categories_that_look_like_numbers_keep_their_names() -> None:
    file = b"code,size,y\n" + b"01,1,0\n02,2,1\nx,3,1\n01,4,0\n02,5,1\n" * 2
    known = schema(file, "y")
    assert (known.columns[0].categories, known.classes) == (["01", "02", "x"], ["0", "1"])
    table, notes, _ = apply(b"y,size,code\n1.0,1,02\n0,2,01\n3,2,01\n", known)
    assert table.categorical.tolist() == [[1], [0], [0]]
    assert table.target.tolist() == [1, 0, -1]
    assert notes == ["Column 'y': 1 value is not a class that the model knows (like '3'): missing."]


def test_one_column_is_enough_where_the_model_reads_one() -> None:
    known = schema(b"size,price\n1,10\n2,20.5\n3,30\n")
    assert apply(b"size\n4\n5\n", known)[0].numeric.tolist() == [[4.0], [5.0]]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "file: is empty"),
        (b"size,kind,note\n", "file: has a header line and no rows"),
        (b"size,note\n1,x\n", "file: lacks the column 'kind', which the model reads"),
        (b"1,2\n3,4\n", r"file: lacks the columns 'size', 'kind', .* must be a header\)"),
        (b"size,kind,note\n1,a\n", "line 2 has 2 fields"),
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=says):
        apply(data, schema())


def test_a_text_is_no_row_of_a_csv_file() -> None:
    texts = protocol.DatasetSchema(
        task="classification", rows=1, columns=[], target=["next"], shape=[4], symbols=["a"]
    )
    with pytest.raises(errors.InvalidRequest, match="holds no symbols, which"):
        apply(b"a,b\n1,2\n", texts)
