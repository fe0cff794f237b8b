"""From leases to reports and tells: what a study relies on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load

from hpo_service import catalog, protocol
from tests import training
from workers import measured, objective
from workers.data import dataset
from workers.data.folds import splits
from workers.models import mlp
from workers.training import curve, out_of_fold
from workers.work import Work

FAST: dict[str, Any] = {"epochs": 6, "hidden_units": 8, "batch_size": 16}


def run(
    leases: list[protocol.TrialLease], data: Path, channel: training.Channel | None = None
) -> training.Channel:
    channel = channel or training.Channel()
    objective.run(Work(leases, data, None, "cpu", 1), channel)
    assert set(channel.tells) == {lease.lease_id for lease in leases}
    return channel


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return training.blob(training.small("classification", rows=90), tmp_path / "data")


@pytest.mark.parametrize(
    ("name", "model", "param", "value", "exponent"),
    [
        ("wine", "logistic_regression", "C", 0.9943, -1.25),
        ("diabetes", "ridge", "alpha", 0.4896, 0.25),
    ],
)
def test_a_grid_over_a_deterministic_model_gives_the_known_answer(
    name: str, model: str, param: str, value: float, exponent: float, tmp_path: Path
) -> None:
    exponents = np.linspace(-4, 4, 33)
    leases = [training.lease(model, {param: float(10**each)}) for each in exponents]
    channel = run(leases, training.blob(training.bundled(name), tmp_path / "data"))
    values = [(channel.tells[lease.lease_id].values or [0])[0] or 0 for lease in leases]
    assert max(values) == pytest.approx(value, abs=5e-5)
    assert exponents[int(np.argmax(values))] == exponent


def test_one_report_an_epoch_and_the_last_one_is_the_value(data: Path) -> None:
    lease = training.lease("mlp", FAST, metrics=["accuracy", "log_loss"], record=["f1_macro"])
    channel = run([lease], data)
    reports, tell = channel.reports[lease.lease_id], channel.tells[lease.lease_id]
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    assert [len(folds) for folds in reports[0].folds] == [5, 5]
    means = [float(np.mean(folds)) for folds in reports[-1].folds]  # type: ignore[arg-type]
    assert reports[-1].values == pytest.approx(means)
    assert set(reports[-1].metrics) == {"f1_macro", "train_accuracy", "train_loss"}
    assert len(reports[-1].train_folds) == 5
    mean = float(np.mean(reports[-1].train_folds))  # type: ignore[arg-type]
    assert reports[-1].metrics["train_accuracy"] == pytest.approx(mean)
    assert (tell.state, tell.epoch, tell.values) == ("complete", 6, reports[-1].values)


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("mlp", FAST),
        ("mlp", FAST | {"patience": 2, "learning_rate": 0.3}),
        ("mlp", FAST | {"restarts": 2, "restart_score": "ensemble"}),
        ("logistic_regression", {}),
    ],
)
def test_predictions_of_the_epoch_that_scores_are_kept(
    model: str, more: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    lease = training.lease(model, more, metrics=["accuracy", "log_loss"], repeats=2)
    channel = run([lease], data)
    tell = channel.tells[lease.lease_id]
    point = channel.reports[lease.lease_id][(tell.epoch or 0) - 1]
    (tmp_path / "said").write_bytes(channel.artifacts["out_of_fold"])
    said, rows = out_of_fold.unpack(tmp_path / "said"), dataset.read(data)
    assert said.shape == (2, 90, 3)
    objective_ = measured.objective(lease)
    parts = list(splits(rows, objective_.validation, 0))
    for at, (_, valid) in enumerate(parts):
        found = said[at // 5, valid]
        right = (found.argmax(1) == rows.target[valid]).mean()
        loss = -np.log(found[np.arange(len(valid)), rows.target[valid]]).mean()
        assert right == pytest.approx(point.folds[0][at])
        assert loss == pytest.approx(point.folds[1][at], rel=1e-5)


def test_a_given_epoch_scores_on_the_schedule_of_all_epochs(data: Path) -> None:
    params = FAST | {"schedule": "cosine", "patience": 2}
    whole, part = training.lease("mlp", params), training.lease("mlp", params, epoch=4)
    channel = run([whole, part], data)
    tell, reports = channel.tells[part.lease_id], channel.reports[part.lease_id]
    assert (tell.state, tell.epoch, len(reports)) == ("complete", 4, 4)
    assert [r.folds for r in reports] == [r.folds for r in channel.reports[whole.lease_id][:4]]


def test_trials_on_other_folds_share_a_pack_and_nothing_else(data: Path) -> None:
    searched = training.lease("mlp", FAST)
    fresh = training.lease("mlp", FAST, study_seed=99, folds=3)
    packed = run([searched, fresh], data)
    for lease in (searched, fresh):
        assert packed.tells[lease.lease_id] == run([lease], data).tells[lease.lease_id]
    folds = [packed.reports[lease.lease_id][-1].folds for lease in (searched, fresh)]
    assert [len(each[0]) for each in folds] == [5, 3]


def test_a_bad_trial_of_a_pack_leaves_the_others_as_they_are_alone(data: Path) -> None:
    sgd = FAST | {"optimizer": "sgd", "learning_rate": 0.05}
    good = training.lease("mlp", sgd | {"dropout": 0.2}, seed=3)
    diverging = training.lease("mlp", sgd | {"learning_rate": 10.0, "weight_decay": 10.0})
    wrong = training.lease("mlp", {"hidden_layers": 11})
    other_shape = training.lease("mlp", sgd | {"hidden_units": 9}, seed=4)
    packed = run([good, diverging, wrong, other_shape], data)
    errors = {lease_id: tell.error for lease_id, tell in packed.tells.items() if tell.error}
    assert {key: error.reason for key, error in errors.items()} == {
        diverging.lease_id: "non_finite",
        wrong.lease_id: "bad_params",
    }
    assert packed.reports[diverging.lease_id][-1].values == [None]
    for lease in (good, other_shape):
        alone = run([lease], data)
        assert packed.tells[lease.lease_id].values == alone.tells[lease.lease_id].values


def test_a_network_that_cannot_be_built_fails_alone(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = mlp.Mlp._draw

    def draw(self: mlp.Mlp, settings: Any, rng: Any) -> Any:
        if settings.weight_decay == 0.5:
            raise MemoryError("too large")
        return real(self, settings, rng)

    monkeypatch.setattr(mlp.Mlp, "_draw", draw)
    good, bad = training.lease("mlp", FAST), training.lease("mlp", FAST | {"weight_decay": 0.5})
    channel = run([bad, good], data)
    error = channel.tells[bad.lease_id].error
    assert error is not None
    assert error.reason == "oom"
    assert channel.tells[good.lease_id].state == "complete"


@pytest.mark.parametrize(
    ("action", "state", "epoch"),
    [("prune", "pruned", 2), ("stop", "fail", None), ("lost", "fail", None)],
)
def test_a_decision_ends_its_trial_alone(
    action: Any, state: str, epoch: int | None, data: Path
) -> None:
    judged, other = training.lease("mlp", FAST, seed=1), training.lease("mlp", FAST, seed=2)
    decision = protocol.Decision(action=action, step=2 if action == "prune" else None)
    channel = run([judged, other], data, training.Channel({(judged.lease_id, 3): decision}))
    tell, reports = channel.tells[judged.lease_id], channel.reports[judged.lease_id]
    assert (tell.state, tell.epoch, len(reports)) == (state, epoch, 3)
    if action == "prune":
        assert tell.values == reports[1].values
    assert len(channel.reports[other.lease_id]) == 6
    assert channel.tells[other.lease_id].values == run([other], data).tells[other.lease_id].values


def test_early_stopping_watches_the_mean_and_scores_at_its_best_epoch() -> None:
    found = curve.Curve("minimize", epochs=10, patience=2)
    for step, values in enumerate([(5.0, 1.0), (2.0, 3.0), (4.0, 2.0), (1.0, 4.0)], start=1):
        found.add(curve.point(step, {"rmse": list(values)}, ["rmse"]))
        assert found.ended == (step == 4)
    # Each fold's own best epoch is another one: 4 and 1.
    assert (found.chosen.step, found.chosen.values) == (2, [2.5])


def test_the_same_lease_gives_the_same_curve_twice(data: Path) -> None:
    lease = training.lease("mlp", FAST | {"dropout": 0.5}, seed=9)
    assert run([lease], data).reports == run([lease], data).reports


def setting(name: str, model: str, **params: Any) -> protocol.ModelSetting:
    epochs = params.get("epochs")
    return protocol.ModelSetting(
        name=name, model=model, params=params, epochs=epochs, seed=5, values=[0.5]
    )


@pytest.mark.parametrize(
    ("task", "baseline", "metric"),
    [("classification", "logistic_regression", "accuracy"), ("regression", "ridge", "r2")],
)
def test_the_final_lease_scores_winner_and_baseline_once(
    task: protocol.Task, baseline: str, metric: str, tmp_path: Path
) -> None:
    rows = training.small(task, rows=150)
    search = training.blob(rows, tmp_path / "search", slice(0, 110))
    held_out = training.blob(rows, tmp_path / "held_out", slice(110, 150))
    refits = [setting("winner", "mlp", epochs=20), setting(baseline, baseline)]
    lease = training.lease("mlp", kind="final", refits=refits)
    channel = training.Channel()
    objective.run(Work([lease], search, held_out, "cpu", 1), channel)
    tell = channel.tells[lease.lease_id]
    assert [(each.name, each.metric, each.rows) for each in tell.estimates] == [
        ("winner", metric, 40),
        (baseline, metric, 40),
    ]
    for each in tell.estimates:
        assert each.low is not None
        assert each.high is not None
        assert each.low <= each.value <= each.high
    assert (tell.state, tell.epoch, tell.values) == ("complete", 20, [tell.estimates[0].value])
    stored = load(channel.artifacts["predictions"])
    np.testing.assert_array_equal(stored["target"].reshape(-1), rows.target[110:].reshape(-1))


def test_the_stored_model_says_what_it_is_and_predicts_by_its_numbers_alone(
    tmp_path: Path,
) -> None:
    rows = training.small("regression", rows=60)
    search = training.blob(rows, tmp_path / "search", slice(0, 40))
    held_out = training.blob(rows, tmp_path / "held_out", slice(40, 60))
    refits = [setting("winner", "mlp", epochs=3, hidden_layers=1, activation="tanh")]
    lease = training.lease("mlp", kind="final", refits=refits)
    channel = training.Channel()
    objective.run(Work([lease], search, held_out, "cpu", 1), channel)
    path = tmp_path / "model"
    path.write_bytes(channel.artifacts["model"])
    with safe_open(path, framework="numpy") as file:
        described = json.loads(file.metadata()["model"])
    assert described["family"] == "mlp"
    assert described["schema"]["rows"] == 40
    numbers = load(channel.artifacts["model"])
    prefix = "preprocessing."
    x = (rows.numeric[40:] - numbers[prefix + "means"]) / numbers[prefix + "scales"]
    h = np.tanh(x @ numbers["layers.0.weight"].T + numbers["layers.0.bias"])
    y = h @ numbers["layers.1.weight"].T + numbers["layers.1.bias"]
    y = y * numbers[prefix + "target_scale"] + numbers[prefix + "target_mean"]
    np.testing.assert_allclose(load(channel.artifacts["predictions"])["prediction"], y, rtol=1e-4)


def test_without_held_out_rows_the_winner_is_refitted_and_not_scored(data: Path) -> None:
    lease = training.lease("mlp", kind="final", refits=[setting("winner", "mlp", epochs=2)])
    channel = run([lease], data)
    tell = channel.tells[lease.lease_id]
    assert (tell.state, tell.values, tell.estimates) == ("complete", [0.5], [])
    assert set(channel.artifacts) == {"model"}


def test_unreadable_data_fails_every_lease_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"not a safetensors file")
    leases = [training.lease("mlp"), training.lease("mlp")]
    channel = run(leases, tmp_path / "data")
    reasons = [tell.error.reason for tell in channel.tells.values() if tell.error]
    assert reasons == ["error", "error"]


def test_every_metric_is_measured_for_its_task(data: Path) -> None:
    names = [m.name for m in catalog.METRICS.values() if "classification" in m.tasks]
    lease = training.lease("logistic_regression", metrics=["f1_macro"], record=names)
    tell = run([lease], data).tells[lease.lease_id]
    assert set(tell.metrics) == set(names) - {"f1_macro"} | {"train_f1_macro"}
