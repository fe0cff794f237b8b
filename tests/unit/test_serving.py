"""Which model a study serves, and that the file of several says their weighted mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load

from hpo_service import errors, protocol
from tests import training
from workers import models, objective, serving
from workers.data import dataset
from workers.data.dataset import Dataset
from workers.data.folds import splits
from workers.evidence import ensembles
from workers.export.model import export
from workers.models import storing
from workers.training import out_of_fold
from workers.work import Work

SHORT: dict[str, Any] = {"epochs": 3, "hidden_units": 8, "batch_size": 16}


def found(score: float, alone: float, error: float | None, metric: str = "accuracy") -> Any:
    return protocol.Ensemble(
        kind="average",
        metric=metric,
        weights={"1": 0.5, "4": 0.5},
        score=score,
        alone=alone,
        standard_error=error,
    )


@pytest.mark.parametrize(
    ("score", "alone", "error", "metric", "beats"),
    [
        (0.93, 0.90, 0.02, "accuracy", True),
        (0.93, 0.90, 0.04, "accuracy", False),
        (0.90, 0.93, 0.02, "accuracy", False),
        (0.93, 0.90, None, "accuracy", False),
        (0.20, 0.30, 0.05, "log_loss", True),
        (0.30, 0.20, 0.05, "log_loss", False),
    ],
)
def test_an_ensemble_beats_one_by_more_than_a_standard_error(
    score: float, alone: float, error: float | None, metric: str, beats: bool
) -> None:
    one = found(score, alone, error, metric)
    assert serving.beats(one) == beats
    assert not serving.beats(one.model_copy(update={"weights": {"1": 1.0}}))


class Study:
    """Trials whose predictions are off by noise of their own, and the final lease that they get."""

    def __init__(self, folder: Path, noise: list[float], **changes: Any) -> None:
        self.folder, self.data = folder, training.small("regression", rows=90)
        rng = np.random.default_rng(0)
        kept = {"metrics": ["r2"]} | changes
        self.files: dict[str, Path] = {}
        self.said = []
        for number, size in enumerate(noise):
            wrong = 60 * size * rng.standard_normal((1, 60, 1))
            self.add(number, (self.data.target[:60][None] + wrong).astype(np.float32))
        self.lease = self.final(**kept)
        self.search = training.blob(self.data, folder / "search", slice(0, 60))
        self.held_out = training.blob(self.data, folder / "held_out", slice(60, 90))

    def add(self, number: int, prediction: NDArray[np.float32]) -> None:
        sha256 = f"{number:064x}"
        self.files[sha256] = self.folder / sha256
        self.files[sha256].write_bytes(out_of_fold.pack(prediction))
        known = {"kind": "search", "number": number, "model": None, "values": [0.5], "folds": [[]]}
        self.said.append(protocol.OutOfFold.model_validate(known | {"sha256": sha256}))

    def final(
        self,
        serve: str = "best",
        model: str = "mlp",
        params: dict[str, Any] | None = None,
        **more: Any,
    ) -> protocol.TrialLease:
        settings = [
            protocol.ModelSetting(
                name=f"trial {one.number}",
                model=model,
                params=(SHORT if params is None else params),
                epochs=2 + (one.number or 0) % 2,
                seed=one.number or 0,
                number=one.number,
                values=[0.5],
            )
            for one in self.said
        ]
        winner = settings[0].model_copy(update={"name": "winner"})
        lease = training.lease(
            model, kind="final", refits=[winner], members=settings, predictions=self.said, **more
        )
        asked = lease.objective.model_copy(update={"serve": serve})
        return lease.model_copy(update={"objective": asked})

    def run(self, held_out: bool = True) -> tuple[protocol.Tell, dict[str, bytes]]:
        channel = training.Channel()
        scored = self.held_out if held_out else None
        work = Work([self.lease], self.search, scored, "cpu", 1, predictions=self.files)
        objective.run(work, channel)
        tell = channel.tells[self.lease.lease_id]
        assert tell.state == "complete", tell
        for name, content in channel.artifacts.items():
            (self.folder / name).write_bytes(content)
        return tell, channel.artifacts


def served(tell: protocol.Tell) -> protocol.Served:
    assert tell.judged.served is not None
    return tell.judged.served


GOOD_TOGETHER = [1.0] * 8


def test_the_best_trials_are_served_where_they_are_clearly_better(tmp_path: Path) -> None:
    tell, artifacts = Study(tmp_path, GOOD_TOGETHER).run()
    assert served(tell).kind == "ensemble"
    ensemble = tell.judged.ensemble
    assert ensemble is not None
    assert ensemble.served
    assert ensemble.standard_error is not None
    assert ensemble.score - ensemble.alone > ensemble.standard_error
    assert {(each.name, each.metric) for each in tell.estimates if each.kind == "held_out"} == {
        ("served", "r2"),
        ("winner", "r2"),
    }
    card = models.load(tmp_path / "model").card
    assert [f"{each.number}" for each in card.members] == sorted(
        ensemble.weights, key=lambda each: (-ensemble.weights[each], int(each))
    )
    assert sum(each.weight for each in card.members) == pytest.approx(1)
    assert tell.values == [next(e.value for e in tell.estimates if e.name == "served")]
    assert load(artifacts["predictions"])["prediction"].shape == (30, 1)


@pytest.mark.parametrize(
    ("changes", "held_out", "kind", "reason"),
    [
        ({}, False, "single", "no rows are held out"),
        ({"noise": [0.1, 3.0, 3.0]}, True, "single", "does not beat one"),
        ({"serve": "single"}, True, "single", "the study asks for it"),
        ({"serve": "ensemble"}, False, "ensemble", "the study asks for it"),
        ({"serve": "ensemble", "noise": [0.1, 3.0, 3.0]}, True, "ensemble", "asks for it"),
        ({"serve": "ensemble", "noise": [1.0]}, True, "single", "fewer than two completed trials"),
        ({"serve": "ensemble", "metrics": ["r2", "mae"]}, True, "single", "several metrics"),
        ({"metrics": ["r2", "mae"]}, True, "single", "several metrics"),
        ({"serve": "folds"}, True, "single", "were not kept"),
    ],
)
def test_otherwise_what_is_asked_for_and_can_be_formed(
    changes: dict[str, Any], held_out: bool, kind: str, reason: str, tmp_path: Path
) -> None:
    noise = changes.pop("noise", GOOD_TOGETHER) if "noise" in changes else GOOD_TOGETHER
    study = Study(tmp_path, noise, **changes)
    if len(study.lease.objective.metrics) > 1:  # type: ignore[union-attr,arg-type]
        (winner,) = study.lease.refits
        two = winner.model_copy(update={"values": [0.5, 0.5]})
        study.lease = study.lease.model_copy(update={"refits": [two]})
    tell, _ = study.run(held_out)
    assert (served(tell).kind, reason in served(tell).reason) == (kind, True), served(tell)
    members = models.load(tmp_path / "model").card.members
    assert bool(members) == (kind == "ensemble")


def test_folds_that_leave_rows_out_form_no_ensemble(tmp_path: Path) -> None:
    study = Study(tmp_path, [1.0], serve="ensemble")
    study.add(7, np.full((1, 60, 1), np.nan, np.float32))
    study.lease = study.final(serve="ensemble", metrics=["r2"])
    tell, _ = study.run()
    assert "do not score every row" in served(tell).reason


def test_what_cannot_be_read_leaves_the_winner(tmp_path: Path) -> None:
    study = Study(tmp_path, GOOD_TOGETHER, serve="ensemble")
    study.files[f"{0:064x}"].write_bytes(b"nothing")
    tell, _ = study.run()
    assert (served(tell).kind, "could not be told" in served(tell).reason) == ("single", True)
    assert "findings_error" in tell.notes


def alone(study: Study, member: protocol.ModelMember, family: str) -> NDArray[Any]:
    """What one member says of the held-out rows, refitted by a lease of its own."""
    setting = next(each for each in study.lease.members if each.number == member.number)
    assert (setting.params, setting.epochs, setting.seed) == (
        member.params,
        member.epochs,
        member.seed,
    )
    lease = training.lease(
        family, kind="final", refits=[setting.model_copy(update={"name": "winner"})], metrics=["r2"]
    )
    channel = training.Channel()
    objective.run(Work([lease], study.search, study.held_out, "cpu", 1), channel)
    prediction: NDArray[Any] = load(channel.artifacts["predictions"])["prediction"]
    return prediction


@pytest.mark.parametrize(
    ("family", "params"),
    [
        ("mlp", SHORT),
        ("mlp", SHORT | {"restarts": 2, "restart_score": "ensemble"}),
        ("ridge", {"alpha": 1.0}),
        ("random_forest", {"n_estimators": 5}),
    ],
)
def test_a_stored_ensemble_says_the_weighted_mean_of_its_members(
    family: str, params: dict[str, Any], tmp_path: Path
) -> None:
    study = Study(tmp_path, [1.0, 1.0, 1.5], serve="ensemble", model=family, params=params)
    _, artifacts = study.run()
    stored = models.load(tmp_path / "model")
    wanted = sum(each.weight * alone(study, each, family) for each in stored.card.members)
    rows = dataset.read(study.held_out)
    np.testing.assert_allclose(stored.predict(rows), wanted, rtol=1e-6)
    np.testing.assert_allclose(load(artifacts["predictions"])["prediction"], wanted, rtol=1e-6)
    if family in ("ridge", "random_forest"):
        with pytest.raises(errors.BadRequest, match="no ONNX form"):
            export(stored)
        return
    session = onnxruntime.InferenceSession(export(stored), providers=["CPUExecutionProvider"])
    (said,) = session.run(["prediction"], {"numeric": rows.numeric})
    np.testing.assert_allclose(said, wanted, rtol=1e-4)


def test_a_member_whose_arrays_are_missing_makes_it_no_model(tmp_path: Path) -> None:
    Study(tmp_path, GOOD_TOGETHER, serve="ensemble").run()
    stored = models.load(tmp_path / "model")
    more = stored.card.model_copy(
        update={"members": [*stored.card.members, stored.card.members[0]]}
    )
    arrays = load((tmp_path / "model").read_bytes())
    (tmp_path / "more").write_bytes(storing.packed(arrays, more.metadata()))
    with pytest.raises(errors.BadRequest, match="lacks arrays"):
        models.load(tmp_path / "more")


def test_members_of_little_weight_are_spared(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    target = rng.normal(size=(100, 1))
    size = np.array([0.6, 0.6, 0.6, 0.7, 0.9, 1.2, 2.0, 2.0, 2.5, 4.0])
    said = target + size[:, None, None] * rng.normal(size=(10, 100, 1))
    tensors = (torch.from_numpy(each) for each in (said, target))
    _, every = ensembles.blend("rmse", "minimize", *tensors, np.arange(100) % 5)
    greedy = every[2]
    assert greedy.weights.sum() == pytest.approx(1)
    assert all(weight == 0 or weight >= ensembles.LEAST_WEIGHT for weight in greedy.weights)
    assert ensembles.together(every, "minimize").kind in ("average", "greedy")


# --- the networks of the winner's folds -------------------------------------------------------


def searched(
    data: Dataset, folder: Path, family: str, params: dict[str, Any], **more: Any
) -> tuple[protocol.TrialLease, protocol.Tell, dict[str, bytes]]:
    """A trial of a study that serves folds."""
    lease = training.lease(family, params, folds=3, **more)
    asked = lease.objective.model_copy(update={"serve": "folds"})
    lease = lease.model_copy(update={"objective": asked})
    channel = training.Channel()
    search = training.blob(data, folder / "search", slice(0, 60))
    objective.run(Work([lease], search, None, "cpu", 1), channel)
    return lease, channel.tells[lease.lease_id], channel.artifacts


@pytest.mark.parametrize(
    ("family", "params"),
    [
        ("mlp", SHORT),
        ("mlp", SHORT | {"epochs": 30, "patience": 3, "learning_rate": 0.2}),
        ("mlp", SHORT | {"early_stopping": "inner", "patience": 2}),
        ("mlp", SHORT | {"restarts": 2, "restart_score": "ensemble"}),
        ("logistic_regression", {}),
    ],
)
def test_the_networks_of_the_folds_are_those_that_scored(
    family: str, params: dict[str, Any], tmp_path: Path
) -> None:
    data = training.small("classification", rows=60)
    lease, tell, artifacts = searched(data, tmp_path, family, params)
    (tmp_path / "model").write_bytes(artifacts["fold_networks"])
    (tmp_path / "said").write_bytes(artifacts["out_of_fold"])
    stored, said = models.load(tmp_path / "model"), out_of_fold.unpack(tmp_path / "said")[0]
    assert [each.weight for each in stored.card.members] == pytest.approx([1 / 3] * 3)
    assert stored.card.epochs == tell.epoch
    validation = lease.objective.validation  # type: ignore[union-attr]
    parts = list(splits(data, validation, 0))
    for member, (_, valid) in zip(stored.members, parts, strict=True):
        own = member.fitted.predict(member.preprocessing.inputs(data, valid))
        np.testing.assert_allclose(own, said[valid], rtol=1e-4, atol=1e-6)
    every = np.arange(data.rows)
    each = [m.fitted.predict(m.preprocessing.inputs(data, every)) for m in stored.members]
    np.testing.assert_allclose(stored.predict(data), np.mean(each, axis=0), atol=1e-9)


def test_a_trial_that_goes_on_elsewhere_keeps_the_networks_of_its_best_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = training.small("classification", rows=60)
    params = SHORT | {"epochs": 30, "patience": 3, "learning_rate": 0.2}
    lease, tell, whole = searched(data, tmp_path, "mlp", params)
    assert tell.epoch is not None
    stop = {(lease.lease_id, tell.epoch + 1): protocol.Decision(action="stop")}
    first, second = training.Channel(stop), training.Channel()
    objective.run(Work([lease], tmp_path / "search", None, "cpu", 1), first)
    step, state = first.checkpoints[lease.lease_id]
    assert step > tell.epoch
    (tmp_path / "state").write_bytes(state)
    kept = {lease.lease_id: tmp_path / "state"}
    objective.run(Work([lease], tmp_path / "search", None, "cpu", 1, kept), second)
    assert second.tells[lease.lease_id].epoch == tell.epoch
    assert second.artifacts["fold_networks"] == whole["fold_networks"]


def test_only_a_study_that_asks_for_it_keeps_the_networks(tmp_path: Path) -> None:
    data = training.small("classification", rows=60)
    for more in ({"metrics": ["accuracy", "log_loss"]}, {"kind": "confirm", "epoch": 2}):
        _, _, artifacts = searched(data, tmp_path, "mlp", SHORT, **more)
        assert "fold_networks" not in artifacts
    lease, channel = training.lease("mlp", SHORT, folds=3), training.Channel()
    objective.run(Work([lease], tmp_path / "search", None, "cpu", 1), channel)
    assert set(channel.artifacts) == {"out_of_fold"}


def test_the_networks_of_the_folds_are_scored_as_they_are(tmp_path: Path) -> None:
    data = training.small("classification", rows=90)
    _, _, artifacts = searched(data, tmp_path, "mlp", SHORT)
    (tmp_path / "networks").write_bytes(artifacts["fold_networks"])
    held_out = training.blob(data, tmp_path / "held_out", slice(60, 90))
    one = protocol.ModelSetting(
        name="winner", model="mlp", params=SHORT, epochs=3, seed=0, number=0, values=[0.5]
    )
    base = one.model_copy(update={"name": "naive_bayes", "model": "naive_bayes", "params": {}})
    lease = training.lease("mlp", kind="final", refits=[one, base], networks="a" * 64)
    asked = lease.objective.model_copy(update={"serve": "folds"})
    lease = lease.model_copy(update={"objective": asked})
    channel, files = training.Channel(), {"a" * 64: tmp_path / "networks"}
    work = Work([lease], tmp_path / "search", held_out, "cpu", 1, predictions=files)
    objective.run(work, channel)
    tell = channel.tells[lease.lease_id]
    assert [each.name for each in tell.estimates] == ["served", "naive_bayes"]
    assert channel.artifacts["model"] == artifacts["fold_networks"]
    said = load(channel.artifacts["predictions"])
    wanted = models.load(tmp_path / "networks").predict(dataset.read(held_out))
    np.testing.assert_allclose(said["prediction"], wanted)
    assert tell.values == [float((wanted.argmax(1) == said["target"]).mean())]


def test_networks_of_images_become_one_graph(tmp_path: Path) -> None:
    data = training.small("classification", rows=60, kind="image")
    *_, artifacts = searched(data, tmp_path, "cnn", {"epochs": 2, "batch_size": 16})
    (tmp_path / "model").write_bytes(artifacts["fold_networks"])
    stored = models.load(tmp_path / "model")
    session = onnxruntime.InferenceSession(export(stored), providers=["CPUExecutionProvider"])
    (said,) = session.run(["prediction"], {"numeric": data.numeric})
    np.testing.assert_allclose(said, stored.predict(data), atol=1e-4)
