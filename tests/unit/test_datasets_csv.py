from __future__ import annotations

import csv
import io
import time
from typing import Any

import numpy as np
import pytest

from hpo_service import errors, protocol
from hpo_service.datasets import Table, csv_file
from hpo_service.datasets.ingest import ingest as ingested

HEADER = "size,color,y"
ROWS = [f"{i * 1.5},{'rgb'[i % 3]},{'no' if i % 2 else 'yes'}" for i in range(30)]
GOOD = "\n".join([HEADER, *ROWS, ""])


def refusal(text: str | bytes, target: str = "y", **more: Any) -> errors.InvalidRequest:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(errors.InvalidRequest) as caught:
        ingested(data, protocol.Upload(name="mine", target=target, **more))
    return caught.value


def ingest(text: str, target: str = "y", **more: Any) -> tuple[Table, str]:
    upload = protocol.Upload(name="mine", target=target, **more)
    table, warnings = ingested(text.encode(), upload)
    return table, "\n".join(warnings)


def column(values: list[object], other: str = "z") -> str:
    """A file of a column `x` with these values, a harmless column and a target of two classes."""
    lines = [f"{value},{i * i % 7},{'ab'[i % 2]}" for i, value in enumerate(values)]
    return "\n".join([f"x,{other},y", *lines])


def test_a_file_becomes_a_table() -> None:
    table, warnings = ingest(GOOD)
    assert table.schema.task == "classification"
    assert [(c.name, c.kind, c.categories) for c in table.schema.columns] == [
        ("size", "numeric", []),
        ("color", "categorical", ["b", "g", "r"]),
    ]
    assert table.schema.target == ["y"]
    assert table.schema.classes == ["no", "yes"]
    assert table.numeric[:2].tolist() == [[0.0], [1.5]]
    assert table.categorical[:3].tolist() == [[2], [1], [0]]
    assert table.target[:3].tolist() == [1, 0, 1]
    assert warnings == "Target 'y': 2 different texts, read as classes."


@pytest.mark.parametrize(
    "written",
    [
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\r"),
        "\ufeff" + GOOD,
        GOOD.replace(",", ";"),
        GOOD.replace(",", "\t"),
        GOOD.replace(",", "|"),
        GOOD.replace(",", ", "),
        "\n\n" + GOOD.replace("\n", "\n\n"),
        GOOD.rstrip(),
        GOOD.replace("yes", '"yes"').replace("color", '"color"'),
    ],
)
def test_the_same_table_however_it_is_written(written: str) -> None:
    assert ingest(written)[0].sha256 == ingest(GOOD)[0].sha256


def test_quotes_keep_delimiters_line_breaks_and_quotes() -> None:
    text = 'x,y\n"a, ""b""\nc",1\nd,0\n"a, ""b""\nc",0\nd,1\n'
    assert ingest(text)[0].schema.columns[0].categories == ['a, "b"\nc', "d"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "file: is empty"),
        ("\n \n", "file: has one column only"),
        ("\n\n", "file: is empty"),
        ("a,b,y\n", "file: has a header line and no rows"),
        ("y\n1\n2\n", "file: has one column only"),
        ("a,a,y\n1,2,3\n", "line 1 names 2 columns 'a'"),
        ("a, ,y\n1,2,3\n", "line 1 has no name for column 2"),
        ("a\u0007,y\n1,2\n", "line 1 has control characters in the name of column 1"),
        (GOOD + "1,r\n", "line 32 has 2 fields, the header has 3"),
        (GOOD + "1,r,yes,\n", "line 32 has 4 fields, the header has 3"),
        ('a,y\n"1\n2",3\n4\n', "line 4 has 1 fields, the header has 2"),
        (GOOD + '1,"r,yes\n' + GOOD, "line 32 opens a quote that is not closed"),
        (GOOD + '1,"r"g,yes\n', "line 32 goes on after a closing quote"),
        (GOOD.encode() + b"1,\xff,yes\n", "line 32 is not UTF-8"),
        (GOOD + "1,\0,yes\n", "line 32 has a NUL byte"),
        (GOOD.encode("utf-16"), "is text in UTF-16: save it as CSV in UTF-8"),
        (b"\x93NUMPY\0\0", "is an NPY file: write it with numpy.savez"),
        (GOOD + "inf,r,yes\n", "line 32 has an infinite number in column 'size'"),
        (GOOD + "1e999,r,yes\n", "line 32 has an infinite number in column 'size'"),
        (",".join(f"c{i}" for i in range(5001)), "5,001 columns: 5,000 are the most"),
        ("c,m,y\n5,,a\n5,,b\n", "no column is left to learn from"),
    ],
)
def test_a_faulty_file_is_refused_with_the_line(text: str | bytes, message: str) -> None:
    error = refusal(text)
    assert message in error.message
    assert error.fields[0].field == "file"


def test_too_many_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "MAX_ROWS", 29)
    assert "more than 29 rows" in refusal(GOOD).message


def test_missing_values_however_written() -> None:
    words = ["", "NA", "n/a", "NaN", "null", "NULL", "?", "None", " na "]
    table, _ = ingest(column([*words, "1.5", "2"]))
    assert np.isnan(table.numeric[: len(words), 0]).all()
    assert table.numeric[-2:, 0].tolist() == [1.5, 2.0]
    table, _ = ingest(column([*words, "u", "v", "u"]))
    assert table.categorical[:, 0].tolist() == [-1] * len(words) + [0, 1, 0]


@pytest.mark.parametrize("text", ["0x10", "1_000", "12%", "1,5"])
def test_one_text_makes_a_column_categorical_and_is_named(text: str) -> None:
    quoted = f'"{text}"'
    table, warnings = ingest(column([1, 2, 3, quoted] * 10))
    assert table.schema.columns[0].kind == "categorical"
    assert f"line 5 has '{text}', so that it is read as categories" in warnings


def test_decimal_commas_are_read_where_the_comma_is_no_delimiter() -> None:
    rows = [f"{i % 7},{i % 5};{'ab'[i % 2]}" for i in range(30)]
    table, warnings = ingest("\n".join(["x;y", *rows]))
    assert table.numeric[8, 0] == 1.3
    assert "decimal commas" in warnings


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([7] * 40, "has the same value in all rows: left out"),
        (["k"] * 40, "has the same value in all rows: left out"),
        ([""] * 40, "has no value in any row: left out"),
        ([f"n{i}" for i in range(40)], "has 40 different texts (like 'n0')"),
        ([*range(39), "?!"], "so that it cannot be read as numbers (name it in `numeric`"),
        (["k", *[""] * 39], "has a value in one row only: left out"),
    ],
)
def test_a_column_that_cannot_help_is_left_out_and_said(values: list[object], reason: str) -> None:
    table, warnings = ingest(column(values))
    assert [c.name for c in table.schema.columns] == ["z"]
    assert reason in warnings


def test_odd_columns_are_kept_and_said() -> None:
    assert "counts the rows" in ingest(column(list(range(40))))[1]
    assert "is empty in 75% of the rows" in ingest(column([1.5, "", "", ""] * 10))[1]
    table, warnings = ingest("x,y\n" + "1,a\n2,b\n" * 3 + "1,b\n")
    assert (table.schema.rows, "4 rows equal to another row" in warnings) == (7, True)


def test_rows_without_a_target_are_left_out_and_counted() -> None:
    table, warnings = ingest(GOOD + "1,r,\n2,g,NA\n")
    assert table.schema.rows == 30
    assert "2 rows without a target: left out." in warnings
    # What is left decides what a column holds.
    assert table.sha256 == ingest(GOOD + "1,violet,\n")[0].sha256


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        ([0, 1] * 30, "classification", ["0", "1"]),
        ([1.5, 2] * 30, "classification", ["1.5", "2"]),
        ([3, 10, 2] * 20, "classification", ["2", "3", "10"]),
        (["True", "False"] * 30, "classification", ["False", "True"]),
        (list(range(21)) * 10, "regression", []),
        (list(range(10)) * 4, "regression", []),
        ([0.5, 1, 2] * 20, "regression", []),
    ],
)
def test_the_task_is_guessed_and_said(values: list[object], task: str, classes: list[str]) -> None:
    text = "\n".join(["x,y", *(f"{i % 7},{value}" for i, value in enumerate(values))])
    table, warnings = ingest(text)
    assert (table.schema.task, table.schema.classes) == (task, classes)
    assert ("read as classes" in warnings) == (task == "classification")
    assert table.target.dtype == (np.int64 if classes else np.float64)


def test_the_caller_may_say_the_task() -> None:
    text = "\n".join(["x,y", *(f"{i % 7},{i % 3}" for i in range(30))])
    assert ingest(text, task="regression")[0].target[:4].tolist() == [0.0, 1.0, 2.0, 0.0]
    table, _ = ingest(text.replace(",2", ",2.5"), task="classification")
    assert table.schema.classes == ["0", "1", "2.5"]


@pytest.mark.parametrize(
    ("values", "task", "message"),
    [
        (["a"] * 30, None, "has the value 'a' in all 30 rows"),
        ([1] * 30, None, "has the value '1' in all 30 rows"),
        ([""] * 30, None, "has no value in any row"),
        ([f"t{i}" for i in range(30)], None, "30 different values in 30 rows"),
        ([*range(30), "oops"], None, "should be a number, but line 32 has 'oops'"),
        (["a", "b"] * 15, "regression", "should be a number, but line 2 has 'a'"),
        ([i / 7 for i in range(30)], "classification", "too many to be classes"),
    ],
)
def test_a_target_that_cannot_be_learned_is_refused(
    values: list[object], task: str | None, message: str
) -> None:
    text = "\n".join(["x,y", *(f"{i % 7},{value}" for i, value in enumerate(values))])
    error = refusal(text, task=task)
    assert message in error.message
    assert error.fields[0].field == "target"


def test_a_target_that_is_not_there_is_refused_with_the_choice() -> None:
    assert "choose one of 'size', 'color', 'y'" in refusal(GOOD, "Y").message
    assert "first line must be a header" in refusal("\n".join(ROWS), "y").message


def test_random_text_survives_the_way_through_a_file() -> None:
    """pandas and the csv module agree on every field, whatever stands in it."""
    random = np.random.default_rng(0)
    alphabet = np.array(list(" ,;\"'\n\r\tab\u2028é\\#-.1"))
    rows = [
        ["".join(random.choice(alphabet, random.integers(0, 6))) for _ in range(3)]
        for _ in range(600)
    ]
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([["a", "b", "y"], *rows])
    frame = csv_file.scan(buffer.getvalue().encode()).texts([0, 1, 2])
    read = frame.astype(object).where(frame.notna(), "").to_numpy().tolist()
    kept = [["" if field in csv_file.MISSING else field for field in row] for row in rows]
    assert [[f.strip() for f in row] for row in read] == [[f.strip() for f in row] for row in kept]


def test_numbers_are_read_exactly() -> None:
    numbers = np.random.default_rng(0).normal(size=1000) * 10.0 ** np.arange(-100, 100, 0.2)
    table, _ = ingest(column([repr(float(number)) for number in numbers]))
    assert (table.numeric[:, 0] == numbers).all()


def test_a_hundred_thousand_rows_take_seconds() -> None:
    line = "0.123,4.567,8,red,text\n1.234,5.678,9,blue,\n"
    text = "a,b,c,d,y\n" + line.replace("text", "p").replace("blue,", "blue,q") * 50_000
    started = time.process_time()
    assert ingest(text)[0].schema.rows == 100_000
    assert time.process_time() - started < 20
