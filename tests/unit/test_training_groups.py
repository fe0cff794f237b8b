"""How lanes are computed changes no result: in one pass, in turn, again in smaller passes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hpo_service import catalog, protocol
from tests import training
from workers import objective
from workers.data import dataset
from workers.models import MODELS, NetworkModel, mlp
from workers.training import kernels, seeding
from workers.training.folds import Folds
from workers.training.groups import NetworkGroup
from workers.training.lanes import Lane, Lanes, shape_of
from workers.training.scores import combine
from workers.work import Work

FAST: dict[str, Any] = {"epochs": 5, "hidden_units": 8, "batch_size": 16, "dropout": 0.2}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return training.blob(training.small("classification", rows=90), tmp_path / "data")


def run(leases: list[protocol.TrialLease], data: Path, lanes: int | None = None) -> Any:
    channel = training.Channel()
    objective.run(Work(leases, data, None, "cpu", 1, lanes=lanes), channel)
    return channel


def curves(channel: training.Channel) -> list[list[float]]:
    return [
        [report.metrics["train_loss"] or 0 for report in reports]
        for reports in channel.reports.values()
    ]


@pytest.mark.parametrize("lanes", [1, 3, 7])
def test_passes_of_any_size_come_to_the_same(lanes: int, data: Path) -> None:
    leases = [
        training.lease("mlp", FAST | {"optimizer": optimizer, "restarts": restarts}, seed=seed)
        for seed, (optimizer, restarts) in enumerate([("sgd", 1), ("adam", 2), ("rmsprop", 1)])
    ]
    whole, parts = run(leases, data), run(leases, data, lanes)
    np.testing.assert_allclose(curves(parts), curves(whole), rtol=1e-4)
    notes = [tell.notes for tell in parts.tells.values()]
    assert [note["lanes"] for note in notes] == [lanes] * 3


def test_too_little_memory_is_answered_by_smaller_passes(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, calls = training.lease("mlp", FAST), []
    whole = run([lease], data)
    real = mlp.Mlp.learn

    def learn(self: mlp.Mlp, step: int, *given: Any) -> torch.Tensor:
        calls.append(len(self.parameters))
        # In the third epoch, when two have been reported.
        if len(self.parameters) > 2 and len(calls) > 11:
            raise MemoryError("too large")
        return real(self, step, *given)

    monkeypatch.setattr(mlp.Mlp, "learn", learn)
    short = run([lease], data)
    reports = short.reports[lease.lease_id]
    assert [report.step for report in reports] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(curves(short), curves(whole), rtol=1e-4)
    assert max(calls) == 5
    assert calls[-1] <= 2


def test_what_does_not_fit_even_alone_fails_as_out_of_memory(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learn(self: mlp.Mlp, *given: Any) -> torch.Tensor:
        raise MemoryError("too large")

    monkeypatch.setattr(mlp.Mlp, "learn", learn)
    lease = training.lease("mlp", FAST)
    error = run([lease], data).tells[lease.lease_id].error
    assert error is not None
    assert error.reason == "oom"


def test_a_pack_that_would_not_fit_is_split_before_it_starts(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = catalog.FAMILIES["mlp"]
    settings = catalog.settings_of(family, FAST)
    model = MODELS["mlp"]
    assert isinstance(model, NetworkModel)
    rows = training.table(dataset.read(data), family="mlp")
    size = model.size(settings, shape_of(rows))
    one = kernels.bytes_of(size, 16, rows.train_inputs.dtype)
    monkeypatch.setattr(kernels, "free_bytes", lambda device: 2 * one + 1)
    plan = kernels.plan(model, [settings], shape_of(rows), 5)
    assert (plan.kernel, plan.lanes) == ("split", 2)


def test_restarts_are_chosen_by_their_training_loss_and_never_by_the_rows_that_score() -> None:
    scores = [[{"accuracy": 0.9}, {"accuracy": 0.5}], [{"accuracy": 0.4}, {"accuracy": 0.6}]]
    losses = [[0.3, 0.2], [0.1, float("nan")]]
    assert combine("best", scores, losses, None).folds == {"accuracy": [0.5, 0.4]}
    assert combine("mean", scores, losses, None).folds == {"accuracy": [0.7, 0.5]}


def test_an_ensemble_is_scored_by_its_averaged_predictions(data: Path) -> None:
    lease = training.lease("mlp", FAST | {"restarts": 3, "restart_score": "ensemble"}, folds=3)
    measured = run([lease], data).tells[lease.lease_id].values
    rows = training.table(dataset.read(data), dtype=torch.float32)
    settings = catalog.settings_of(catalog.FAMILIES["mlp"], FAST)
    model = MODELS["mlp"]
    assert isinstance(model, NetworkModel)
    made = [
        Lane(settings, part, seeding.generator(0, 0, part, restart))
        for part in range(3)
        for restart in range(3)
    ]
    lanes = Lanes(model, made, rows)
    for _ in range(5):
        lanes.epoch()
    mean = lanes.predict().view(3, 3, -1, 3).mean(1)
    right = (mean.argmax(2) == rows.valid_target) * rows.valid_mask
    assert measured == pytest.approx([float((right.sum(1) / rows.valid_mask.sum(1)).mean())])


def test_early_stopping_on_an_inner_split_leaves_the_scoring_rows_alone(data: Path) -> None:
    inner = FAST | {"early_stopping": "inner", "patience": 1, "epochs": 30}
    lease = training.lease("mlp", inner)
    reports = run([lease], data).reports[lease.lease_id]
    watched = [report.metrics["early_stopping"] for report in reports]
    assert len(reports) < 30
    # It stopped one epoch after the best of what it watched.
    assert int(np.argmax(watched)) == len(watched) - 2


@pytest.mark.parametrize("iterations", [1, 7, 12])
def test_iterations_count_the_steps_of_every_network(iterations: int, data: Path) -> None:
    # 72 training rows in batches of 16: 5 steps an epoch.
    lease = training.lease("mlp", FAST | {"iterations": iterations})
    reports = run([lease], data).reports[lease.lease_id]
    assert len(reports) == -(-iterations // 5)
    rows = dataset.read(data)
    folds = Folds(rows, protocol.Validation(), 0, ["accuracy"], [], training.CPU)
    trial = objective._CrossValidation(Work([], data, None, "cpu", 1), training.Channel())._trial(
        lease
    )
    assert trial is not None
    group = NetworkGroup([trial], folds)
    for _ in reports:
        scores = group.advance()
        point = objective.curve.point(1, scores[0].folds, ["accuracy"])
        trial.curve.add(point)
    assert {state.steps for state in group.states(trial)} == {iterations}


def test_balanced_classes_weigh_rows_by_the_inverse_share_of_their_class() -> None:
    rows = training.small("classification", rows=60)
    rows.target[:] = np.where(np.arange(60) % 10 == 0, 1, 0)
    few = training.table(rows)
    plain = training.lanes(few, "mlp", [({"epochs": 30}, 0, 0)])
    balanced = training.lanes(few, "mlp", [({"class_weights": "balanced"}, 0, 0)])
    for _ in range(3):
        plain.epoch()
        balanced.epoch()
    # Rare rows, unrelated to the inputs, are predicted more often where they count more.
    assert balanced.predict()[0, :, 1].mean() > 1.5 * plain.predict()[0, :, 1].mean()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_comes_to_the_same_as_the_processor(data: Path) -> None:
    lease = training.lease("mlp", FAST)
    there = training.Channel()
    objective.run(Work([lease], data, None, "cuda", 1), there)
    np.testing.assert_allclose(curves(there), curves(run([lease], data)), rtol=1e-3)


def test_trials_that_come_later_join_those_that_run_and_change_nothing(data: Path) -> None:
    leases = [training.lease("mlp", FAST | {"restarts": 2}, seed=seed) for seed in range(3)]
    other = training.lease("mlp", FAST | {"batch_size": 8}, seed=7)
    alone = [run([lease], data) for lease in [*leases, other]]

    @dataclasses.dataclass
    class Late(training.Channel):
        """Hands out two more leases after the second epoch of the first one."""

        def more(self) -> list[protocol.TrialLease]:
            first = self.reports.get(leases[0].lease_id, [])
            return [*leases[1:], other] if len(first) == 2 and len(self.reports) == 1 else []

    channel = Late()
    objective.run(Work(leases[:1], data, None, "cpu", 1), channel)
    for lease, single in zip([*leases, other], alone, strict=True):
        reports = channel.reports[lease.lease_id]
        assert [report.step for report in reports] == [1, 2, 3, 4, 5]
        losses = [report.metrics["train_loss"] for report in reports]
        (wanted,) = curves(single)
        np.testing.assert_allclose(losses, wanted, rtol=1e-4)  # type: ignore[arg-type]
    assert channel.tells[leases[0].lease_id].notes["lanes"] == 30
