"""`hpo predict` and `hpo export`: a stored model and a file of rows, without a server."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load
from typer.testing import CliRunner, Result

from hpo_service.cli.commands import app
from tests import training
from workers import predict
from workers.data.dataset import Dataset
from workers.export import __main__ as export

HEADER = "colour,size,y,id,shape\n"
ROWS = "red,51.5,yes,1,round\n,,no,2,long\ngreen,40,maybe,3,round\n"


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["predict", *words], prog_name="hpo")


def done(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def failed(result: Result, code: int = 1) -> str:
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a `model` of `training.mixed`, its `held_out` rows and what it said of them."""
    made = tmp_path_factory.mktemp("left")
    for name, content in training.stored(training.mixed(), "mlp", {}, made).items():
        (made / name).write_bytes(content)
    return made


def as_csv(data: Dataset, rows: slice) -> str:
    """Rows of `training.mixed`."""
    lines = []
    colours, shapes = (column.categories for column in data.schema.columns[1:])
    for at in range(data.rows)[rows]:
        size, (colour, shape) = data.numeric[at, 0], data.categorical[at]
        fields = [
            colours[colour] if colour >= 0 else "",
            "" if np.isnan(size) else repr(float(size)),
            data.schema.classes[data.target[at]],
            str(at),
            shapes[shape] if shape >= 0 else "",
        ]
        lines.append(",".join(fields))
    return HEADER + "\n".join(lines)


def test_each_row_gets_its_class_and_the_probabilities(folder: Path) -> None:
    data = training.mixed()
    (folder / "new.csv").write_text(as_csv(data, slice(40, 60)))
    out = folder / "predictions.csv"
    shown = done(run(str(folder / "model"), str(folder / "new.csv"), "--out", str(out)))
    with out.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["prediction", "probability_no", "probability_yes"]
    said = load((folder / "predictions").read_bytes())
    found = [[float(line["probability_no"]), float(line["probability_yes"])] for line in lines]
    np.testing.assert_allclose(found, said["prediction"], atol=2e-6)
    codes = said["prediction"].argmax(1)
    assert [line["prediction"] for line in lines] == [data.schema.classes[at] for at in codes]
    right = (codes == said["target"]).mean()
    assert f"Accuracy on the 20 rows with a known y: {right:.4f}" in shown
    assert "20 predictions" in shown


def test_a_pipe_gets_the_predictions_alone(folder: Path) -> None:
    (folder / "odd.csv").write_text(HEADER + ROWS)
    result = run(str(folder / "model"), str(folder / "odd.csv"))
    assert len(done(result).splitlines()) == 4
    assert "Not used by the model: 'id'" in result.stderr
    assert "not a category that the model knows (like 'green')" in result.stderr
    assert "Accuracy on the 2 rows" in result.stderr


def test_numbers_come_in_the_units_of_the_data(tmp_path: Path) -> None:
    data = training.bundled("diabetes")
    (tmp_path / "model").write_bytes(training.stored(data, "ridge", {}, tmp_path)["model"])
    names = [column.name for column in data.schema.columns]
    lines = [",".join(map(repr, row.tolist())) for row in data.numeric[300:]]
    (tmp_path / "new.csv").write_text("\n".join([",".join(names), *lines]))
    result = run(str(tmp_path / "model"), str(tmp_path / "new.csv"))
    header, *numbers = done(result).split()
    assert header == "prediction"
    error = np.array(numbers, np.float64) - data.target[300:, 0]
    assert 1 - error.var() / data.target[300:, 0].var() > 0.4
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("model", "rows", "code", "says"),
    [
        ("model", "nothing.csv", 2, "does not exist"),
        ("model", "", 1, "is empty"),
        ("model", HEADER, 1, "has a header line and no rows"),
        ("model", "1,2\n3,4\n", 1, "must be a header"),
        ("model", "size,shape\n1,long\n", 1, "lacks the column 'colour'"),
        ("predictions", HEADER + ROWS, 1, "predictions is no model"),
        ("new.csv", HEADER + ROWS, 1, "new.csv is no model"),
        ("cut", HEADER + ROWS, 1, "is no model, or not all of one"),
        ("nobody", HEADER + ROWS, 1, "There is no file"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    folder: Path, tmp_path: Path, model: str, rows: str, code: int, says: str
) -> None:
    (folder / "new.csv").write_text(HEADER + ROWS)
    (folder / "cut").write_bytes((folder / "model").read_bytes()[:-9])
    file = tmp_path / "rows.csv"
    if rows != "nothing.csv":
        file.write_text(rows)
    result = run(str(folder / model), str(file), "--url", "http://127.0.0.1:9")
    assert says in failed(result, code)


def test_what_only_the_model_can_tell_is_one_line_too(tmp_path: Path) -> None:
    data = training.mixed()
    model = training.stored(data, "gan", {}, tmp_path)["model"]
    (tmp_path / "model").write_bytes(model)
    (tmp_path / "new.csv").write_text(as_csv(data, slice(0, 5)))
    assert "makes rows" in failed(run(str(tmp_path / "model"), str(tmp_path / "new.csv")))


def test_the_process_that_predicts_says_what_is_wrong(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict.main([str(folder / "model"), str(folder / "nothing"), "out"]) == 1
    assert predict.main([str(folder / "nothing"), str(folder / "held_out"), "out"]) == 1
    assert capsys.readouterr().err.count("\n") == 2


def test_an_onnx_file_says_what_the_model_says_of_the_columns(folder: Path) -> None:
    data, file = training.mixed(), folder / "model.onnx"
    result = CliRunner().invoke(app, ["export", str(folder / "model"), str(file)])
    assert "of family mlp" in done(result)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    card = json.loads(session.get_modelmeta().custom_metadata_map["model"])
    assert [column["name"] for column in card["schema"]["columns"]] == ["size", "colour", "shape"]
    inputs = {"numeric": data.numeric[40:], "categorical": data.categorical[40:]}
    (found,) = session.run(["prediction"], inputs)
    said = load((folder / "predictions").read_bytes())["prediction"]
    np.testing.assert_allclose(found, said, atol=1e-4)


def test_an_export_that_cannot_be_is_one_line(folder: Path, tmp_path: Path) -> None:
    ridge = training.stored(training.small("regression"), "ridge", {}, tmp_path)["model"]
    (tmp_path / "model").write_bytes(ridge)
    for model, says in (
        (folder / "predictions", "is no model"),
        (tmp_path / "model", "no ONNX form"),
    ):
        words = ["export", str(model), str(tmp_path / "out.onnx")]
        assert says in failed(CliRunner().invoke(app, words))
    assert not (tmp_path / "out.onnx").exists()


def test_without_the_extra_it_says_how_to_get_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "workers.export.model", None)
    assert export.main([str(folder / "model"), "out.onnx"]) == 1
    assert "pip install 'hpo-service[onnx]'" in capsys.readouterr().err
