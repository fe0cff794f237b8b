"""What a machine measured once decides how lanes are computed, the same way from then on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from hpo_service.catalog.mlp import MlpHyperparameters
from tests import training
from workers.models import MODELS, NetworkModel
from workers.models.base import Shape
from workers.training import kernels

SHAPE = Shape("classification", 5, 3, torch.float32, training.CPU)
SMALL, LARGE = MlpHyperparameters(hidden_units=4), MlpHyperparameters(hidden_units=512)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NetworkModel:
    """An MLP with two probes, and a machine that has measured nothing yet."""
    monkeypatch.setenv("HPO_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(kernels, "_tables", {})
    mlp = MODELS["mlp"]
    assert isinstance(mlp, NetworkModel)
    probes = ((SMALL, SHAPE), (LARGE, SHAPE))
    return dataclasses.replace(mlp, probes=probes, kind=lambda settings: "")


def test_the_nearest_probe_decides(model: NetworkModel, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = {4: 3.0, 512: 0.8}
    monkeypatch.setattr(
        kernels, "measure", lambda model, settings, *_: measured[settings.hidden_units]
    )

    def plan(units: int) -> kernels.Plan:
        return kernels.plan(model, [MlpHyperparameters(hidden_units=units)], SHAPE, 5)

    assert plan(8) == kernels.Plan("batched", 5)
    assert plan(300) == kernels.Plan("alone", 1)


def test_a_machine_measures_once(model: NetworkModel, monkeypatch: pytest.MonkeyPatch) -> None:
    first = kernels.table(model, training.CPU)
    assert [probe.ratio > 0 for probe in first] == [True, True]
    monkeypatch.setattr(kernels, "_tables", {})
    monkeypatch.setattr(kernels, "measure", lambda *_: pytest.fail("measured again"))
    assert kernels.table(model, training.CPU) == first


def test_a_damaged_table_is_measured_anew(
    model: NetworkModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels.table(model, training.CPU)
    (path,) = (tmp_path / "kernels").glob("*.json")
    path.write_text('[{"kind": ')
    monkeypatch.setattr(kernels, "_tables", {})
    assert len(kernels.table(model, training.CPU)) == 2
    assert len(kernels._read(path)) == 2
