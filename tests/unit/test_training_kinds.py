"""Built-in data of various kinds, from the server's blob to a scored refit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from hpo_service import protocol
from hpo_service.artifacts import Blobs
from hpo_service.database import Database
from hpo_service.datasets import prepare
from tests import training
from workers import objective
from workers.work import Work

FOLDS = protocol.Validation(folds=3)


@pytest.mark.parametrize(
    ("name", "baseline", "shape"),
    [
        ("linnerud", "ridge", (4, 3)),
        ("digits_rows", "logistic_regression", (359, 10)),
        ("sentences", "logistic_regression", (54, 8)),
    ],
)
def test_any_kind_of_data_can_be_searched_and_scored(
    name: str, baseline: str, shape: tuple[int, int], sqlite_url: str, tmp_path: Path
) -> None:
    blobs = Blobs(tmp_path)
    database = Database(sqlite_url)
    with database.read() as session:
        found = prepare(session, blobs, name, 0.2, FOLDS)
    database.close()
    assert found.holdout_sha256
    data, holdout = blobs.path(found.search_sha256), blobs.path(found.holdout_sha256)
    params = {"hidden_units": 8, "epochs": 2}
    search = training.lease("mlp", params, folds=3)
    refits = [
        protocol.ModelSetting(
            name=each, model=model, params=params if each == "winner" else {}, epochs=epochs,
            seed=0, values=[0.0],
        )
        for each, model, epochs in (("winner", "mlp", 2), (baseline, baseline, None))
    ]  # fmt: skip
    final = training.lease("mlp", kind="final", refits=refits)
    channel = training.Channel()
    objective.run(Work([search], data, None, "cpu", 1), channel)
    objective.run(Work([final], data, holdout, "cpu", 1), channel)
    assert {tell.state for tell in channel.tells.values()} == {"complete"}
    assert len(channel.reports[search.lease_id][0].folds[0]) == 3
    stored = load(channel.artifacts["predictions"])
    assert stored["prediction"].shape == shape
    assert np.isfinite(stored["prediction"]).all()
    assert {each.name for each in channel.tells[final.lease_id].estimates} == {"winner", baseline}
