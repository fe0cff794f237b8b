"""What the winner is refitted to: with its trial's rates, from several weights, to look at."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load

from hpo_service import catalog, protocol
from tests import training
from workers import objective
from workers.data.dataset import Dataset
from workers.models import MODELS, NetworkModel
from workers.training import refitting, seeding
from workers.training.lanes import Lane, Lanes
from workers.work import Work


def setting(model: str, notes: dict[str, Any] | None = None, **params: Any) -> Any:
    return protocol.ModelSetting(
        name="winner",
        model=model,
        params=params,
        epochs=params.get("epochs", 1),
        seed=5,
        values=[0.5],
        notes=notes or {},
    )


def refitted(data: Dataset, one: protocol.ModelSetting, folder: Path) -> training.Channel:
    """A final lease, carried out with a third of the rows held out."""
    search = training.blob(data, folder / "search", slice(0, 60))
    held_out = training.blob(data, folder / "held_out", slice(60, 90))
    lease = training.lease(one.model, kind="final", refits=[one])
    channel = training.Channel()
    objective.run(Work([lease], search, held_out, "cpu", 1), channel)
    assert channel.tells[lease.lease_id].state == "complete", channel.tells
    return channel


def next_symbols(rows: int = 90) -> Dataset:
    """The alphabet over and over, from any letter on."""
    steps, letters = 8, ["a", "b", "c", "d"]
    first = np.random.default_rng(0).integers(0, 4, rows)
    codes = (first[:, None] + np.arange(steps + 1)) % 4
    schema = protocol.DatasetSchema(
        task="classification",
        rows=rows,
        columns=[],
        target=["next"],
        classes=letters,
        shape=[steps],
        symbols=letters,
        per_step=True,
    )
    return Dataset(schema, np.empty((rows, 0)), codes[:, :-1], codes[:, 1:])


def test_a_network_of_texts_writes_one(tmp_path: Path) -> None:
    one = setting("rnn", epochs=25, hidden_units=16, batch_size=8)
    channel = refitted(next_symbols(), one, tmp_path)
    text = channel.artifacts["continuation.txt"].decode()
    assert len(text) > 300
    pairs = [one + two for one, two in itertools.pairwise(text)]
    assert sum(pair in ("ab", "bc", "cd", "da") for pair in pairs) > 0.9 * len(pairs)
    stored = load(channel.artifacts["predictions"])
    assert stored["prediction"].shape == (30 * 8, 4)
    right = stored["prediction"].argmax(1) == stored["target"]
    (tell,) = channel.tells.values()
    assert tell.values == pytest.approx([right.mean()])
    # Steps of one row are no rows of their own: the interval is wider than of 240 rows.
    (estimate,) = tell.estimates
    assert estimate.low is not None
    assert estimate.high is not None
    assert "groups" in estimate.method


def test_an_ensemble_keeps_all_its_networks_and_predicts_their_mean(tmp_path: Path) -> None:
    data = training.small("classification", rows=90)
    one = setting("mlp", epochs=3, restarts=3, restart_score="ensemble")
    channel = refitted(data, one, tmp_path)
    arrays = load(channel.artifacts["model"])
    assert {name.split(".")[1] for name in arrays if name.startswith("networks.")} == set("012")
    mean = setting("mlp", epochs=3, restarts=3, restart_score="mean")
    single = load(refitted(data, mean, tmp_path).artifacts["model"])
    assert not any(name.startswith("networks.") for name in single)
    first = {name.removeprefix("networks.0."): a for name, a in arrays.items()}
    np.testing.assert_allclose(single["layers.0.weight"], first["layers.0.weight"], rtol=1e-4)


@pytest.mark.parametrize("drops", [[], [2]])
def test_the_refit_repeats_the_drops_of_its_trial(drops: list[int]) -> None:
    rows = training.table(training.small("classification", rows=90), folds=3)
    params = {"optimizer": "sgd", "schedule": "plateau", "schedule_factor": 0.1, "epochs": 4}
    settings = catalog.settings_of(catalog.FAMILIES["mlp"], params)
    model = MODELS["mlp"]
    assert isinstance(model, NetworkModel)
    one = setting("mlp", {"epochs": 9, "drops": drops}, **params)
    found = refitting.fit(model, settings, one, rows)
    lanes = Lanes(model, [Lane(settings, 0, seeding.generator(5, 0, 0))], rows)
    for epoch in range(4):
        lanes.scale([0.1 if drops and epoch >= 2 else 1.0])
        lanes.epoch()
    for name, array in lanes.arrays(0).items():
        np.testing.assert_array_equal(found.arrays[0][name], array)


@pytest.mark.parametrize("name", catalog.FAMILIES)
def test_every_family_is_refitted_where_nothing_is_held_out(name: str, tmp_path: Path) -> None:
    family = catalog.FAMILIES[name]
    data = training.small_for(family, family.tasks[0])
    params = {"epochs": 1} if family.network else {}
    lease = training.lease(name, kind="final", refits=[setting(name, **params)])
    channel = training.Channel()
    search = training.blob(data, tmp_path / "search")
    objective.run(Work([lease], search, None, "cpu", 1), channel)
    assert channel.tells[lease.lease_id].state == "complete", channel.tells
    assert "predictions" not in channel.artifacts


def test_the_stored_model_says_how_its_inputs_lie(tmp_path: Path) -> None:
    data = training.small("classification", rows=90, kind="sequence")
    channel = refitted(data, setting("rnn", epochs=1), tmp_path)
    (tmp_path / "model").write_bytes(channel.artifacts["model"])
    with safe_open(tmp_path / "model", framework="numpy") as file:
        described = json.loads(file.metadata()["model"])
    assert described["layout"] == "structured"
    assert described["schema"]["shape"] == [5, 2]
    assert torch.tensor(load(channel.artifacts["model"])["preprocessing.means"]).isfinite().all()
