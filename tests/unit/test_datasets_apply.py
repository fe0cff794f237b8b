"""New rows for a model: columns by name, categories by the model's codes, oddities counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hpo_service import errors, protocol
from hpo_service.datasets import Table
from hpo_service.datasets.apply import apply
from hpo_service.datasets.ingest import ingest
from tests.uploads import csv_of, npz_of

TRAINED = b"size,kind,note,price\n1,a,x,10\n2,b,y,20.5\n3,a,x,30\n4,,x,40\n"


def trained(data: bytes = TRAINED, target: str | None = "price", **more: Any) -> Table:
    return ingest(data, protocol.Upload(name="mine", target=target, **more))[0]


def schema(
    data: bytes = TRAINED, target: str | None = "price", **more: Any
) -> protocol.DatasetSchema:
    return trained(data, target, **more).schema


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
    with pytest.raises(errors.InvalidRequest, match="and the model reads symbols data"):
        apply(b"a,b\n1,2\n", texts)


# --- files that are more than columns -------------------------------------------------------

ROWS = 40
YES_NO = ["no", "yes"] * (ROWS // 2)
NUMBERS = np.random.default_rng(0).normal(size=(ROWS, 6))
LINES = [f"s{i % 20},{i // 20},{i},{'pq'[i % 2]}" for i in range(60)]

EVERY_FILE: dict[str, tuple[bytes, dict[str, Any]]] = {
    "table": (csv_of(a=NUMBERS[:, 0], c=["u", "v", None, "u"] * 10, y=YES_NO), {}),
    "long": ("\n".join(["id,t,a,y", *LINES]).encode(), {"id": "id", "time": "t"}),
    "text": (csv_of(t=["so good", "so bad it is", "", "bad"] * 10, y=YES_NO), {"text": "t"}),
    "characters": (csv_of(t=["ab", "ba"] * 20, y=YES_NO), {"text": "t", "symbols": "characters"}),
    "npz table": (npz_of(x=NUMBERS, y=YES_NO), {}),
    "npz sequence": (npz_of(x=NUMBERS.reshape(ROWS, 3, 2), y=NUMBERS[:, 1]), {}),
    "npz image": (npz_of(x=NUMBERS.reshape(ROWS, 3, 2), y=YES_NO), {"kind": "image"}),
}


@pytest.mark.parametrize("kind", EVERY_FILE)
def test_every_kind_of_file_is_read_as_it_was_for_training(kind: str) -> None:
    data, query = EVERY_FILE[kind]
    table = trained(data, None if "npz" in kind else "y", **query)
    again, notes, _ = apply(data, table.schema)
    assert again.sha256 == table.sha256
    assert notes == []


def test_series_are_told_apart_by_their_ids_cut_and_filled() -> None:
    known = schema(b"id,t,a,y\nu,1,1,p\nu,2,2,p\nv,1,3,q\nw,1,3,q\n", "y", id="id", time="t")
    new = b"t,id,note,a\n9,k2,x,5\n1,k1,x,1\n3,k1,x,3\n2,k1,x,none\n"
    table, notes, key = apply(new, known)
    np.testing.assert_array_equal(table.numeric, [[5, np.nan], [1, np.nan]])
    assert key == ("id", ["k2", "k1"])
    assert table.target.tolist() == [-1, -1]
    assert notes == [
        "Not used by the model: 'note'.",
        "The model reads 2 steps: what comes after is left out.",
    ]


def test_a_forecast_is_made_after_every_window_the_last_one_too() -> None:
    later = [f"2024-02-{day:02}" for day in range(1, 20)]
    days = ["2024-01-03", "2024-01-01", "2024-01-02", *later]
    data = csv_of(day=days, v=[3.0, 1, 2, *range(4, 23)])
    table = trained(data, "v", forecast=2, order_by="day")
    again, _, key = apply(data, table.schema)
    np.testing.assert_array_equal(again.numeric[:-1], table.numeric)
    np.testing.assert_array_equal(again.target, [*table.target, np.nan])
    assert key is not None
    assert (key[0], key[1][0], key[1][-1]) == ("after day", "2024-01-02", "2024-02-19")
    _, _, key = apply(b"v\n1\n2\n3\n", table.schema)
    assert key == ("after line", ["3", "4"])
    with pytest.raises(errors.InvalidRequest, match="has 1 rows: 2 before"):
        apply(b"v\n1\n", table.schema)


def test_words_that_the_model_does_not_know_are_its_other_symbol() -> None:
    known = schema(EVERY_FILE["text"][0], "y", text="t")
    table, _, _ = apply(b"t\nso new\nand much longer than any before it\n", known)
    so, other = known.symbols.index("so"), len(known.symbols) - 1
    assert table.categorical[0].tolist() == [so, other, -1, -1]
    assert table.categorical.shape == (2, 4)


def test_arrays_of_another_shape_are_refused_and_shorter_sequences_filled() -> None:
    images = schema(EVERY_FILE["npz image"][0], None, kind="image")
    with pytest.raises(errors.InvalidRequest, match="image rows of 1x2x3, the model reads 1x3x2"):
        apply(npz_of(x=NUMBERS.reshape(ROWS, 2, 3)), images)
    sequences = schema(EVERY_FILE["npz sequence"][0], None)
    table, _, _ = apply(npz_of(x=NUMBERS[:, :4].reshape(ROWS, 2, 2)), sequences)
    assert np.isnan(table.numeric[:, 4:]).all()
    assert not np.isnan(table.numeric[:, :4]).any()
    with pytest.raises(errors.InvalidRequest, match="holds no texts"):
        apply(npz_of(x=NUMBERS), schema(EVERY_FILE["text"][0], "y", text="t"))


@pytest.mark.parametrize(
    ("kind", "lacks"), [("long", "'id', 't', 'a'"), ("text", "'t'"), ("table", "'a', 'c'")]
)
def test_a_file_that_lacks_a_column_is_refused(kind: str, lacks: str) -> None:
    data, query = EVERY_FILE[kind]
    with pytest.raises(errors.InvalidRequest, match=f"lacks the columns? {lacks}, which"):
        apply(b"other,y\n1,2\n", schema(data, "y", **query))
