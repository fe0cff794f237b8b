"""Every family with an ONNX form: onnxruntime says what PyTorch says of the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from hpo_service import catalog, errors, protocol
from tests import training
from tests.contract.test_families import corners, known
from workers import models
from workers.data import dataset
from workers.data.dataset import Dataset
from workers.export.model import EXPORTED, export

CASES = [
    (catalog.FAMILIES[name], task, kind)
    for name in EXPORTED
    for task in catalog.FAMILIES[name].tasks
    for kind in catalog.FAMILIES[name].kinds
]
ACTIVATIONS = ["sigmoid", "tanh", "relu", "leaky_relu", "prelu", "swish", "gelu", "step"]
GENTLE = {"learning_rate": 0.001, "epochs": 2, "batch_size": 8}


def both(
    data: Dataset, family: str, params: dict[str, Any], folder: Path
) -> tuple[NDArray[Any], NDArray[Any]]:
    """What PyTorch and what onnxruntime say of held-out rows."""
    (folder / "model").write_bytes(training.stored(data, family, params, folder)["model"])
    loaded = models.load(folder / "model")
    rows = dataset.read(folder / "held_out")
    session = onnxruntime.InferenceSession(export(loaded), providers=["CPUExecutionProvider"])
    stored = {"numeric": rows.numeric, "categorical": rows.categorical}
    inputs = {each.name: stored[each.name] for each in session.get_inputs()}
    (found,) = session.run(["prediction"], inputs)
    return loaded.predict(rows), found


def agree(data: Dataset, family: str, params: dict[str, Any], folder: Path) -> None:
    wanted, found = both(data, family, params, folder)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("family", "task", "kind"), CASES, ids=lambda each: getattr(each, "name", each)
)
def test_onnxruntime_says_what_pytorch_says(
    family: catalog.Family, task: protocol.Task, kind: protocol.DataKind, tmp_path: Path
) -> None:
    data = training.small(task, kind=kind)
    ensemble = {"restarts": 2, "restart_score": "ensemble"}
    for params in ({}, ensemble, *corners(family.default_space)):
        given = {catalog.plain(name): value for name, value in params.items()}
        agree(data, family.name, known(family, given | GENTLE), tmp_path)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("normalization", ["none", "batch", "layer"])
@pytest.mark.parametrize(("family", "kind"), [("mlp", "table"), ("cnn", "image")])
def test_every_activation_and_normalization_is_as_it_was(
    family: str, kind: protocol.DataKind, normalization: str, activation: str, tmp_path: Path
) -> None:
    params = {"activation": activation, "normalization": normalization, **GENTLE}
    agree(training.small("classification", kind=kind), family, params, tmp_path)


@pytest.mark.parametrize(
    "params",
    [
        {"normalization": "layer", "head": "global", "pooling": "average"},
        {"normalization": "layer", "head": "dense", "stride": 2, "activation": "sigmoid"},
        {"normalization": "batch", "head": "global", "stride": 2},
        {"normalization": "none", "head": "global", "kernel": 5, "pooling": "max"},
    ],
)
def test_a_signal_is_padding_after_its_end(params: dict[str, Any], tmp_path: Path) -> None:
    agree(training.small("regression", kind="sequence"), "cnn", GENTLE | params, tmp_path)


@pytest.mark.parametrize("readout", ["last", "mean", "max"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["elman", "lstm", "gru"])
def test_every_recurrent_layer_reads_each_row_to_its_end(
    cell: str, bidirectional: bool, readout: str, tmp_path: Path
) -> None:
    params = {"cell": cell, "bidirectional": bidirectional, "readout": readout}
    if cell == "elman":
        params["activation"] = "relu" if bidirectional else "tanh"
    more = {"hidden_layers": 2, "hidden_units": 5}
    for kind in ("sequence", "symbols"):
        agree(training.small("classification", kind=kind), "rnn", params | more, tmp_path)


@pytest.mark.parametrize("embedding", [0, 3])
def test_missing_numbers_and_categories_are_read_as_they_were(
    embedding: int, tmp_path: Path
) -> None:
    agree(training.mixed(), "mlp", {"embedding": embedding, **GENTLE}, tmp_path)


def test_large_numbers_keep_their_last_digits(tmp_path: Path) -> None:
    data = training.mixed()
    far = Dataset(data.schema, data.numeric + 1e9, data.categorical, data.target)
    agree(far, "mlp", GENTLE, tmp_path)


def test_a_class_for_each_step_comes_step_by_step(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(0, 4, (43, 7))
    texts = training.small("classification", kind="symbols")
    schema = texts.schema.model_copy(update={"per_step": True, "classes": training.SYMBOLS})
    agree(Dataset(schema, texts.numeric, codes[:, :-1], codes[:, 1:]), "rnn", {}, tmp_path)


def test_a_family_without_an_onnx_form_is_refused(tmp_path: Path) -> None:
    stored = training.stored(training.mixed(), "logistic_regression", {}, tmp_path)
    (tmp_path / "model").write_bytes(stored["model"])
    with pytest.raises(errors.BadRequest, match="no ONNX form: mlp, perceptron, cnn, rnn have"):
        export(models.load(tmp_path / "model"))
