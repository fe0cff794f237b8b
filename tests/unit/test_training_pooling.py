"""How values come from folds, what rows count, and what a setting takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as reference
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, LeaveOneOut, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hpo_service import catalog, protocol
from tests import training
from workers import objective
from workers.data import parts
from workers.data.dataset import Dataset
from workers.data.folds import splits
from workers.data.parts import Table
from workers.data.preprocessing import Preprocessing
from workers.training import costs
from workers.training.pooling import pooled
from workers.work import Work

LEAVE_ONE_OUT = protocol.Validation(method="leave_one_out")
FAST = {"epochs": 4, "hidden_layers": 1, "hidden_units": 8, "batch_size": 8}


def run(lease: protocol.TrialLease, data: Dataset, path: Path) -> training.Channel:
    channel = training.Channel()
    objective.run(Work([lease], training.blob(data, path / "data"), None, "cpu", 1), channel)
    return channel


def whole(rows: Dataset, scale: Dataset) -> Table:
    """All rows in one part, scaled as those of `scale`."""
    every, none = np.arange(rows.rows), np.arange(0)
    fitted = Preprocessing.fit(scale, np.arange(scale.rows))
    part = replace(
        parts.part(rows, every, rows, none),
        preprocessing=fitted,
        train_inputs=fitted.inputs(rows, every),
        train_scaled=fitted.scaled_target(rows, every),
    )
    return Table.of(rows.schema, [part], torch.float64, training.CPU)


def codes(*folds: list[int]) -> list[np.ndarray]:
    return [np.repeat([0, 1], sizes) for sizes in folds]


@pytest.mark.parametrize(
    ("targets", "per_repeat", "weighted", "expected"),
    [
        (codes([10, 11], [10, 10]), 2, False, []),
        (codes([10, 9], [10, 10]), 2, False, ["roc_auc"]),
        (codes([21, 0], [10, 10]), 2, False, ["roc_auc"]),
        (codes([21, 1], [10, 10]), 2, False, ["accuracy"]),
        (codes([10, 10], [10, 10]), 2, True, ["accuracy"]),
        (codes([1, 0], [0, 1], [1, 0]), 3, False, ["roc_auc"]),
        # One split a repeat: there is nothing to put together.
        (codes([3, 1], [1, 3]), 1, True, []),
    ],
)
def test_small_folds_are_pooled_and_uneven_ones_weighed(
    targets: list[np.ndarray], per_repeat: int, weighted: bool, expected: list[str]
) -> None:
    names = ["accuracy", "roc_auc", "training_time"]
    assert pooled(names, targets, per_repeat, weighted) == expected


def test_numbers_have_no_classes_to_be_too_few() -> None:
    constant = [np.ones((30, 1)), np.ones((30, 1))]
    assert pooled(["r2", "mae"], constant, 2, False) == []


@pytest.mark.parametrize("name", ["roc_auc", "mcc", "f1_weighted", "balanced_accuracy", "brier"])
def test_leave_one_out_scores_all_rows_together(name: str, tmp_path: Path) -> None:
    data = training.bundled("wine")
    data = training.picked(data, np.arange(0, 178, 4))
    lease = training.lease("logistic_regression", metrics=[name], validation=LEAVE_ONE_OUT)
    channel = run(lease, data, tmp_path)
    tell = channel.tells[lease.lease_id]
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    said = cross_val_predict(
        fitted, data.numeric, data.target, cv=LeaveOneOut(), method="predict_proba"
    )
    taken = said.argmax(1)
    expected = {
        "roc_auc": lambda: reference.roc_auc_score(data.target, said, multi_class="ovr"),
        "mcc": lambda: reference.matthews_corrcoef(data.target, taken),
        "f1_weighted": lambda: reference.f1_score(data.target, taken, average="weighted"),
        "balanced_accuracy": lambda: reference.balanced_accuracy_score(data.target, taken),
        "brier": lambda: reference.brier_score_loss(data.target, said),
    }
    assert tell.values == pytest.approx([expected[name]()], abs=1e-9)
    assert tell.notes.get("pooled", []) == ([name] if catalog.METRICS[name].pooled else [])
    folds = channel.reports[lease.lease_id][0].folds[0]
    assert len(folds) == 45
    assert (set(folds) == {None}) == (name == "roc_auc")


def test_r2_of_small_folds_is_that_of_all_rows_then_the_mean_over_repeats(tmp_path: Path) -> None:
    data = training.picked(training.bundled("diabetes"), np.arange(60))
    validation = protocol.Validation(folds=5, repeats=2)
    lease = training.lease("ridge", metrics=["r2"], validation=validation)
    tell = run(lease, data, tmp_path).tells[lease.lease_id]
    fitted = make_pipeline(StandardScaler(), Ridge())
    expected = [
        reference.r2_score(
            data.target,
            cross_val_predict(
                fitted, data.numeric, data.target, cv=KFold(5, shuffle=True, random_state=repeat)
            ),
        )
        for repeat in range(2)
    ]
    assert tell.values == pytest.approx([np.mean(expected)], abs=1e-9)


def test_folds_of_many_rows_are_averaged_as_scikit_learn_does(tmp_path: Path) -> None:
    data = training.bundled("diabetes")
    lease = training.lease("ridge", metrics=["rmse"])
    tell = run(lease, data, tmp_path).tells[lease.lease_id]
    expected = cross_val_score(
        make_pipeline(StandardScaler(), Ridge()),
        data.numeric,
        data.target,
        cv=KFold(5, shuffle=True, random_state=0),
        scoring="neg_root_mean_squared_error",
    )
    assert tell.values == pytest.approx([-expected.mean()], abs=1e-9)
    assert "pooled" not in tell.notes


@pytest.mark.parametrize(
    "restarts",
    [
        {},
        {"restarts": 2, "restart_score": "mean"},
        {"restarts": 2, "restart_score": "best"},
        {"restarts": 2, "restart_score": "ensemble"},
        {"early_stopping": "inner", "patience": 2},
    ],
    ids=["plain", "mean", "best", "ensemble", "inner"],
)
def test_a_networks_pooled_accuracy_is_that_of_its_folds_weighed_by_rows(
    restarts: dict[str, Any], tmp_path: Path
) -> None:
    data = training.small("classification", rows=70)
    schema = data.schema.model_copy(update={"grouped": True})
    sizes = [30, 5, 11, 14, 10]
    data = replace(data, schema=schema, group=np.repeat(np.arange(5), sizes))
    validation = protocol.Validation(folds=3, stratify=False, repeats=2)
    lease = training.lease("mlp", FAST | restarts, metrics=["accuracy"], validation=validation)
    channel = run(lease, data, tmp_path)
    assert "accuracy" in channel.tells[lease.lease_id].notes["pooled"]  # type: ignore[operator]
    rows = [len(v) for _, v in splits(data, validation, 0)]
    for report in channel.reports[lease.lease_id]:
        expected = np.average(report.folds[0], weights=rows)  # type: ignore[arg-type]
        assert report.values == pytest.approx([expected], abs=1e-12)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_weights_are_as_many_copies_of_a_row(task: Any) -> None:
    """One step of gradient descent on weighted rows is one on rows that are there so many times."""
    data = training.small(task, rows=24)
    weight = np.random.default_rng(1).integers(1, 4, 24)
    copied = training.picked(data, np.repeat(np.arange(24), weight))
    counted = replace(data, weight=weight.astype(float))
    params = {**FAST, "batch_size": 1000, "optimizer": "sgd", "learning_rate": 0.1}
    found = []
    for rows in (counted, copied):
        lanes = training.lanes(whole(rows, data), "mlp", [(params, 0, 3)])
        loss = lanes.epoch()
        found.append((loss, lanes.arrays(0)))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-9, atol=1e-9)
    for name, array in found[0][1].items():
        np.testing.assert_allclose(array, found[1][1][name], rtol=1e-9, atol=1e-9)


def test_weighted_rows_count_so_much_in_the_score(tmp_path: Path) -> None:
    data = training.weighted(training.small("classification", rows=90))
    lease = training.lease("mlp", FAST, metrics=["accuracy"], record=["brier"], folds=3)
    channel = run(lease, data, tmp_path)
    tell = channel.tells[lease.lease_id]
    assert set(tell.notes["pooled"]) == {"accuracy", "brier", "log_loss"}  # type: ignore[arg-type]
    assert data.weight is not None
    sums = [data.weight[valid].sum() for _, valid in splits(data, folds(3), 0)]
    for report in channel.reports[lease.lease_id]:
        expected = np.average(report.folds[0], weights=sums)  # type: ignore[arg-type]
        assert report.values == pytest.approx([expected], abs=1e-12)


def test_a_lane_of_weighted_rows_computes_the_same_among_others(tmp_path: Path) -> None:
    data = training.blob(training.weighted(training.small("regression")), tmp_path / "data")
    leases = [training.lease("mlp", FAST | {"hidden_units": n}, seed=n, folds=3) for n in (5, 9)]
    together = training.Channel()
    objective.run(Work(leases, data, None, "cpu", 1), together)
    for lease in leases:
        alone = training.Channel()
        objective.run(Work([lease], data, None, "cpu", 1), alone)
        one, other = (c.tells[lease.lease_id].values for c in (together, alone))
        assert one == pytest.approx(other, rel=1e-4)


def test_ties_in_accuracy_are_broken_by_a_recorded_log_loss(tmp_path: Path) -> None:
    data = training.small("classification", rows=90)
    lease = training.lease("mlp", FAST, folds=3)
    assert "log_loss" in run(lease, data, tmp_path).tells[lease.lease_id].metrics


def folds(count: int) -> protocol.Validation:
    return protocol.Validation(folds=count)


# --- costs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("restarts", "times"), [("mean", 1), ("ensemble", 2)])
def test_costs_are_measured_of_networks(restarts: str, times: int, tmp_path: Path) -> None:
    data = training.small("classification", rows=90)
    params = FAST | {"restarts": 2, "restart_score": restarts}
    lease = training.lease("mlp", params, metrics=["accuracy", *costs.COSTS], folds=3)
    channel = run(lease, data, tmp_path)
    curve = np.array([report.values for report in channel.reports[lease.lease_id]], float)
    assert (np.diff(curve[:, 1]) > 0).all()
    assert (curve[:, 2] == times * (5 * 8 + 8 + 8 * 3 + 3)).all()
    assert (np.diff(curve[:, 3]) <= 0).all()
    assert (curve[:, 3] > 0).all()
    values = channel.tells[lease.lease_id].values
    assert values == curve[-1].tolist()


def test_costs_are_measured_of_estimators(tmp_path: Path) -> None:
    data = training.small("classification", rows=90)
    lease = training.lease("logistic_regression", record=[*costs.COSTS], folds=3)
    found = run(lease, data, tmp_path).tells[lease.lease_id].metrics
    # Coefficients, intercepts and the classes they are of.
    assert found["parameters"] == 3 * 5 + 3 + 3
    assert all(found[name] > 0 for name in costs.COSTS)  # type: ignore[operator]


def test_a_pass_is_shared_by_the_numbers_of_its_networks() -> None:
    small, large = costs.shared([10, 30], [100, 100], training=4.0, predicting=2.0, scored=500)
    assert (small.training_time, large.training_time) == (1.0, 3.0)
    assert (small.latency, large.latency) == (1.0, 3.0)
    assert (small.parameters, large.parameters) == (10, 30)
