"""Every family: what the refit stored is loaded back and says the same of the held-out rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, load_file, save

from hpo_service import catalog, errors, protocol
from tests import training
from tests.contract.test_families import TASKS, corners, known
from workers import models
from workers.data import dataset
from workers.data.dataset import Dataset
from workers.data.layouts import Channels

PREDICTING = [
    (family, task, kind) for family, task in TASKS for kind in family.kinds if task != "generation"
]


def loaded(artifacts: dict[str, bytes], folder: Path) -> models.Loaded:
    (folder / "model").write_bytes(artifacts["model"])
    return models.load(folder / "model")


def check(data: Dataset, model: str, params: dict[str, Any], folder: Path) -> None:
    artifacts = training.stored(data, model, params, folder)
    said = load(artifacts["predictions"])["prediction"]
    found = loaded(artifacts, folder).predict(dataset.read(folder / "held_out"))
    np.testing.assert_allclose(found.reshape(said.shape), said, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("family", "task", "kind"), PREDICTING, ids=lambda each: getattr(each, "name", each)
)
def test_a_stored_model_says_what_the_refitted_one_said(
    family: catalog.Family, task: protocol.Task, kind: protocol.DataKind, tmp_path: Path
) -> None:
    data = training.small(task, kind=kind)
    gentle = {"learning_rate": 0.001, "epochs": 2, "batch_size": 8}
    ensemble = {"restarts": 2, "restart_score": "ensemble"}
    # A corner may be too much for data that the family is not made for.
    ends = corners(family.default_space) if kind == family.kinds[0] else []
    for params in (gentle, gentle | ensemble, *ends):
        given = {catalog.plain(name): value for name, value in params.items()}
        check(data, family.name, known(family, given | gentle), tmp_path)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_stored_generator_makes_rows_as_it_did(average: float, tmp_path: Path) -> None:
    data = training.small("classification", kind="image")
    artifacts = training.stored(data, "gan", {"average": average}, tmp_path)
    model = loaded(artifacts, tmp_path)
    encoder = model.members[0].preprocessing.encoder
    assert isinstance(encoder, Channels)
    made = model.generate(7, np.random.default_rng(3))
    weights = {n: a for n, a in load(artifacts["model"]).items() if n.startswith("generator")}
    again = loaded(artifacts, tmp_path).generate(7, np.random.default_rng(3))
    np.testing.assert_array_equal(made, again)
    changed = load(artifacts["model"])
    last = max(name for name in weights if name.endswith("bias"))
    changed[last] = changed[last] + 1
    metadata = {"model": described(artifacts["model"])}
    shifted = loaded({"model": save(changed, metadata)}, tmp_path)
    np.testing.assert_allclose(
        shifted.generate(7, np.random.default_rng(3)), made + 1, rtol=1e-5, atol=1e-5
    )
    with pytest.raises(errors.BadRequest, match="makes rows"):
        model.predict(dataset.read(tmp_path / "held_out"))


@pytest.mark.parametrize("embedding", [0, 3])
def test_categories_and_missing_numbers_are_read_as_they_were(
    embedding: int, tmp_path: Path
) -> None:
    check(training.mixed(), "mlp", {"embedding": embedding, "normalization": "batch"}, tmp_path)


def test_a_class_for_each_step_comes_step_by_step(tmp_path: Path) -> None:
    steps = 6
    codes = np.random.default_rng(0).integers(0, 4, (43, steps + 1))
    texts = training.small("classification", kind="symbols")
    schema = texts.schema.model_copy(update={"per_step": True, "classes": training.SYMBOLS})
    data = Dataset(schema, texts.numeric, codes[:, :-1], codes[:, 1:])
    artifacts = training.stored(data, "rnn", {}, tmp_path)
    found = loaded(artifacts, tmp_path).predict(dataset.read(tmp_path / "held_out"))
    assert found.shape == (15, steps, 4)
    said = load(artifacts["predictions"])["prediction"]
    np.testing.assert_allclose(found.reshape(-1, 4), said, rtol=1e-5, atol=1e-6)


def described(model: bytes) -> str:
    """The card of a stored model, as JSON."""
    size = int.from_bytes(model[:8], "little")
    card: str = json.loads(model[8 : 8 + size])["__metadata__"]["model"]
    return card


@pytest.mark.parametrize("model", ["mlp", "logistic_regression"])
def test_what_is_no_whole_model_of_this_version_is_refused(model: str, tmp_path: Path) -> None:
    artifacts = training.stored(training.mixed(), model, {}, tmp_path)
    whole, path = artifacts["model"], tmp_path / "model"
    path.write_bytes(whole)
    arrays, card = load_file(path), json.loads(described(whole))
    own = [name for name in arrays if not name.startswith("preprocessing")]
    first = max(own, key=lambda name: arrays[name].size)

    def written(changes: dict[str, Any], **tensors: Any) -> bytes:
        return save(arrays | tensors, {"model": json.dumps(card | changes)})

    shorter = {name: array for name, array in arrays.items() if name != first}
    for content, says in (
        (b"", "is no model, or not all of one"),
        (b"size,price\n1,2\n", "is no model, or not all of one"),
        (whole[:-5], "is no model, or not all of one"),
        (artifacts["predictions"], "is no model"),
        (written({"format": 2}), "format 2, and this version reads format 1"),
        (written({"family": "oracle"}), "family 'oracle', unknown here"),
        (written({"seed": "five"}), "no model of this version: seed"),
        (written({"params": {"magic": 1}}), "params.magic"),
        (save(shorter, {"model": json.dumps(card)}), "lacks arrays of its model"),
        (written({}, **{first: arrays[first].ravel()[:-1]}), "lacks arrays of its model"),
    ):
        path.write_bytes(content)
        with pytest.raises(errors.HpoError, match=says):
            models.load(path).predict(dataset.read(tmp_path / "held_out"))
    with pytest.raises(FileNotFoundError):
        models.load(tmp_path / "nothing")


def test_rows_of_other_columns_are_refused(tmp_path: Path) -> None:
    model = loaded(training.stored(training.mixed(), "mlp", {}, tmp_path), tmp_path)
    with pytest.raises(errors.BadRequest, match="not of the columns"):
        model.predict(training.small("classification"))
