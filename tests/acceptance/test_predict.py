"""From a file to predictions of new rows, by the commands that the README shows."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load
from sklearn.datasets import load_wine

from hpo_service import protocol
from tests.acceptance.conftest import Fleet, wait_for


@pytest.mark.parametrize("lasting", ["sqlite"], indirect=True)
def test_a_file_a_study_and_predictions_of_new_rows(running: Fleet, tmp_path: Path) -> None:
    frame = load_wine(as_frame=True).frame.sample(frac=1, random_state=0)
    frame["target"] = frame["target"].map({0: "barolo", 1: "grignolino", 2: "barbera"})
    frame[:130].to_csv(tmp_path / "wines.csv", index=False)
    new = frame[130:].iloc[:, ::-1]
    new.to_csv(tmp_path / "new.csv", index=False)

    def hpo(*words: str) -> str:
        line = [sys.executable, "-m", "hpo_service.cli", *words]
        run = subprocess.run(
            line, env=running.environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    hpo("dataset", "add", "wines.csv", "--target", "target")
    made = ("--model", "mlp", "--dataset", "wines", "--trials", "2", "--param", "epochs=20")
    hpo("study", "create", "--name", "wines", *made)
    wait_for(lambda: running.finished("wines"))
    hpo("study", "files", "wines", "--save", "model")
    shown = hpo("predict", "model", "new.csv", "--out", "predictions.csv")
    with (tmp_path / "predictions.csv").open(newline="") as file:
        said = [line["prediction"] for line in csv.DictReader(file)]
    right = np.mean(np.array(said) == new["target"].to_numpy())
    assert right > 0.8
    assert f"known target: {right:.4f}" in shown
    assert hpo("predict", "wines", "new.csv") == (tmp_path / "predictions.csv").read_text()


@pytest.mark.parametrize("serve", ["ensemble", "folds"])
def test_several_models_are_one_file_that_says_what_was_scored(
    serve: str, running: Fleet, tmp_path: Path
) -> None:
    """The rows held out are known: the data set has a column that says which."""
    name = f"wines-{serve}"
    frame = load_wine(as_frame=True).frame.sample(frac=1, random_state=0)
    frame["target"], frame["held"] = frame["target"].map(["a", "b", "c"].__getitem__), 0
    frame.loc[frame.index[130:], "held"] = 1
    frame.to_csv(tmp_path / "wines.csv", index=False)
    frame[130:].to_csv(tmp_path / "held.csv", index=False)
    objective = {
        "kind": "train",
        "model": "mlp",
        "dataset": name,
        "params": {"epochs": 8},
        "validation": {"folds": 3},
        "baselines": False,
        "holdout": 0.2,
        "serve": serve,
    }
    content = (tmp_path / "wines.csv").read_bytes()
    running.client.add_dataset(protocol.Upload(name=name, target="target", test="held"), content)
    spec = {"name": name, "objective": objective, "budget": {"trials": 4}}
    running.finish(protocol.StudySpec.model_validate(spec))
    (tmp_path / "model").write_bytes(running.client.model(name))
    line = ["predict", "model", "held.csv", "--out", "out.csv"]
    command = [sys.executable, "-m", "hpo_service.cli", *line]
    subprocess.run(command, env=running.environment, cwd=tmp_path, check=True)
    with (tmp_path / "out.csv").open(newline="") as file:
        found = [[float(line[f"probability_{c}"]) for c in "abc"] for line in csv.DictReader(file)]
    said = load(running.client.final_artifact(name, "predictions"))["prediction"]
    # The server keeps rows in an order of its own.
    np.testing.assert_allclose(sorted(found), sorted(said.tolist()), atol=2e-6)
    final = running.client.final(name)
    assert final.served is not None
    assert (final.served.kind, final.served.held_out[0].rows) == (serve, 48)
    assert final.estimate == final.served.held_out[0]
    assert final.ensemble is not None
    assert final.ensemble.served == (serve == "ensemble")
