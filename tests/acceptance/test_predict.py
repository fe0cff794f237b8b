"""From a file to predictions of new rows, by the commands that the README shows."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_wine

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
