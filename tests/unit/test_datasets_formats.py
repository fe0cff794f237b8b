"""Parquet, NPZ and folders of images: read as what they are, and nothing in them is trusted."""

from __future__ import annotations

import io
import sys
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hpo_service import errors
from hpo_service.datasets import folder, npz_file, parquet_file
from tests.uploads import csv_of, npz_of, parquet_of, refused, taken

ROWS = 40
YES_NO = ["no", "yes"] * (ROWS // 2)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(ROWS, *shape))


# --- Parquet --------------------------------------------------------------------------------


def test_a_parquet_file_is_the_table_of_the_same_csv() -> None:
    columns: dict[str, Any] = {
        "size": [None, *np.arange(1, ROWS) / 4],
        "colour": [None, *(["red", "blue", "red"] * 13)],
        "y": YES_NO,
    }
    assert taken(parquet_of(**columns))[0].sha256 == taken(csv_of(**columns))[0].sha256


def test_each_type_of_a_parquet_column_is_read_as_numbers_or_texts() -> None:
    whole = pd.array([None, *range(1, ROWS)], dtype="Int64") // 3
    table, _ = taken(
        parquet_of(
            whole=whole,
            exact=[Decimal(i % 7) / 4 for i in range(ROWS)],
            truth=[bool(i % 3) for i in range(ROWS)],
            kind=pd.Categorical(["a", "b"] * 20),
            day=pd.to_datetime(["2024-01-01", "2024-01-02"] * 20),
            y=YES_NO,
        )
    )
    kinds = {column.name: column.kind for column in table.schema.columns}
    assert kinds == {
        "whole": "numeric", "exact": "numeric", "truth": "categorical", "kind": "categorical",
        "day": "categorical",
    }  # fmt: skip
    assert np.isnan(table.numeric[0, 0])
    assert table.numeric[5].tolist() == [1.0, 1.25]


def test_the_index_of_a_pandas_frame_is_no_column() -> None:
    shuffled = pd.DataFrame({"x": numbers(), "y": YES_NO}).sample(frac=1, random_state=0)
    buffer = io.BytesIO()
    pytest.importorskip("pyarrow")
    shuffled.to_parquet(buffer)
    assert [column.name for column in taken(buffer.getvalue())[0].schema.columns] == ["x"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PAR1" + b"\0" * 40 + b"PAR1", "is no Parquet file that can be read"),
        (b"PAR1PAR1", "is no Parquet file that can be read"),
    ],
)
def test_a_broken_parquet_file_is_refused(data: bytes, message: str) -> None:
    pytest.importorskip("pyarrow")
    assert message in refused(data).message


def test_a_parquet_file_is_refused_by_what_it_would_unfold_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = parquet_of(x=np.zeros(ROWS), y=YES_NO)
    monkeypatch.setattr(parquet_file, "MAX_ROWS", ROWS - 1)
    assert "take a sample" in refused(data).message


def test_lists_in_a_parquet_column_are_refused() -> None:
    data = parquet_of(x=[[1.0, 2.0]] * ROWS, y=YES_NO)
    assert "column 'x' holds list" in refused(data).message


def test_without_pyarrow_a_parquet_file_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = parquet_of(x=np.zeros(ROWS), y=YES_NO)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert "pip install pyarrow" in refused(data).message


# --- NPZ ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "kind", "found", "wanted"),
    [
        ((5,), None, "table", None),
        ((5,), "sequence", "sequence", [5, 1]),
        ((7, 3), None, "sequence", [7, 3]),
        ((7, 3), "table", None, None),
        ((8, 9), "image", "image", [1, 8, 9]),
        ((8, 9, 3), None, "image", [3, 8, 9]),
        ((3, 8, 9), None, "image", [3, 8, 9]),
        ((8, 9, 5), None, None, None),
        ((2, 2, 2, 2), None, None, None),
    ],
)
def test_the_axes_or_the_kind_say_what_a_row_of_an_npz_is(
    shape: tuple[int, ...], kind: str | None, found: str | None, wanted: list[int] | None
) -> None:
    data = npz_of(x=numbers(*shape), y=np.array(YES_NO))
    if found is None:
        assert refused(data, None, kind=kind).fields[0].field == "kind"
        return
    schema = taken(data, None, kind=kind)[0].schema
    assert (schema.kind, schema.shape, schema.classes) == (found, wanted, ["no", "yes"])


def test_images_are_stored_channel_by_channel_wherever_the_channels_stood() -> None:
    images = np.random.default_rng(0).integers(0, 255, (ROWS, 8, 9, 3)).astype(np.uint8)
    last = taken(npz_of(x=images, y=YES_NO), None)[0]
    first = taken(npz_of(x=images.transpose(0, 3, 1, 2), y=YES_NO), None)[0]
    assert last.sha256 == first.sha256
    np.testing.assert_array_equal(last.numeric.reshape(ROWS, 3, 8, 9), images.transpose(0, 3, 1, 2))
    assert [last.schema.columns[at].name for at in (1, 72)] == ["pixel_0_1_0", "pixel_0_0_1"]


def test_arrays_are_found_by_their_names() -> None:
    data = npz_of(X=numbers(3), label=np.array(YES_NO), w=np.arange(1.0, ROWS + 1))
    table, _ = taken(data, "label", weight="w")
    assert [column.name for column in table.schema.columns] == ["X_0", "X_1", "X_2"]
    assert table.weight is not None
    assert table.weight[1] == 2
    assert "there is no array 'nope': choose one of 'X'" in refused(data, "nope").message
    two = npz_of(a=numbers(3), b=numbers(3), y=YES_NO)
    assert "an array named x; it has 'a', 'b', 'y'" in refused(two).message


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.array([{}, 1], object), "y": [0, 1]}, "never unpickled"),
        ({"x": np.array(["a", "b"] * 20), "y": YES_NO}, "holds texts"),
        ({"x": numbers(3) + 1j, "y": YES_NO}, "numbers or texts are read"),
        ({"x": np.full((ROWS, 2), np.inf), "y": YES_NO}, "infinite number in row 0"),
        ({"x": numbers(3), "y": YES_NO[:-1]}, "one value for each of 40 rows"),
        ({"x": np.empty((0, 3)), "y": []}, "has no rows"),
        ({"x": numbers(3)}, "name the array to predict"),
        ({"y": YES_NO}, "should hold its inputs in an array named x"),
    ],
)
def test_arrays_that_are_no_data_are_refused(arrays: dict[str, Any], message: str) -> None:
    assert message in refused(npz_of(**arrays), None).message


def test_options_of_columns_do_not_go_with_arrays_nor_the_other_way_round() -> None:
    data = npz_of(x=numbers(3), y=YES_NO)
    assert refused(data, None, drop=["x_0"]).fields[0].field == "drop"
    assert refused(csv_of(x=range(ROWS), y=YES_NO), kind="image").fields[0].field == "kind"


def archive(**entries: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in entries.items():
            made.writestr(name.replace("_", "."), content)
    return buffer.getvalue()


def declared(shape: tuple[int, ...], content: bytes = b"") -> bytes:
    """An .npy that says it has this shape."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue() + content


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (archive(notes_txt=b"hello"), "archive of other things"),
        (archive(x_npy=b"hello"), "no NPZ file that can be read"),
        (archive(x_npy=declared((10**12,))), "is not of the size that it says"),
        (archive(x_npy=declared((3,), b"\0" * 16)), "is not of the size that it says"),
        (archive(x_npy=declared((-1,))), "is not of the size that it says"),
        (npz_of(x=numbers(3), y=YES_NO)[:-30], "no NPZ file that can be read"),
        (b"PK\x03\x04", "no NPZ file that can be read"),
    ],
)
def test_a_broken_or_boastful_archive_is_refused(data: bytes, message: str) -> None:
    assert message in refused(data, None).message


def test_an_archive_is_refused_by_what_it_would_unfold_to(monkeypatch: pytest.MonkeyPatch) -> None:
    data = npz_of(x=np.zeros((ROWS, 1000)), y=YES_NO)
    assert len(data) < 3000
    monkeypatch.setattr(npz_file, "MAX_BYTES", 100_000)
    assert "unfolds to 32" in refused(data, None).message


# --- a folder of images ---------------------------------------------------------------------


def picture(path: Path, value: int, size: tuple[int, int] = (6, 4), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour: Any = value if mode == "L" else (value, 0, 0)
    Image.new(mode, size, colour).save(path)


def test_a_folder_of_images_is_one_npz(tmp_path: Path) -> None:
    for at in range(10):
        picture(tmp_path / "cat" / f"{at}.png", 10)
        picture(tmp_path / "dog" / "young" / f"{at}.png", 200)
    (tmp_path / "cat" / ".hidden.png").write_bytes(b"junk")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    packed = folder.pack(tmp_path)
    table, _ = taken(packed.data, None)
    assert (table.schema.shape, table.schema.classes) == ([1, 4, 6], ["cat", "dog"])
    assert [file.name for file in packed.files[:2]] == ["0.png", "1.png"]
    np.testing.assert_array_equal(table.numeric[:, 0], [10.0] * 10 + [200.0] * 10)
    assert table.target.tolist() == [0] * 10 + [1] * 10
    assert packed.note == "20 images of 2 classes, 4x6 pixels, grey."


def test_images_become_one_size_in_colours_or_grey(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png", 100)
    picture(tmp_path / "b" / "1.png", 100, (9, 9), "RGB")
    shapes = [
        taken(folder.pack(tmp_path, size, channels).data, None, task="classification")[0]
        .schema.shape
        for size, channels in ((None, None), ((5, 7), 1))
    ]  # fmt: skip
    assert shapes == [[3, 32, 32], [1, 5, 7]]


def test_images_without_classes_are_rows_to_predict(tmp_path: Path) -> None:
    picture(tmp_path / "1.png", 1)
    with np.load(io.BytesIO(folder.pack(tmp_path).data)) as found:
        assert list(found) == ["x"]


def test_sixteen_bits_a_pixel_are_not_cut_off(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    values = np.linspace(0, 60_000, 24).reshape(4, 6).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a" / "1.png")
    with np.load(io.BytesIO(folder.pack(tmp_path).data)) as found:
        assert (np.diff(found["x"].ravel().astype(int)) > 0).all()


def test_a_folder_that_is_none_of_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidRequest, match="has no images"):
        folder.pack(tmp_path)
    picture(tmp_path / "a" / "1.png", 1)
    picture(tmp_path / "loose.png", 1)
    with pytest.raises(errors.InvalidRequest, match=r"'loose.png' lies in no folder of a class"):
        folder.pack(tmp_path)
    (tmp_path / "loose.png").unlink()
    (tmp_path / "a" / "broken.png").write_bytes(b"junk")
    with pytest.raises(errors.InvalidRequest, match=r"broken.png' is no image that can be read"):
        folder.pack(tmp_path)
