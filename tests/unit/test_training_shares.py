"""A share of the training rows: nested, fair to classes, whole groups, the latest in time."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpo_service import errors, protocol
from tests import training
from workers import objective
from workers.data.dataset import Dataset
from workers.data.folds import shortened
from workers.work import Work

SHARES = (0.1, 0.25, 0.5, 0.9, 1.0)


def data(target: list[int], *, ordered: bool = False, group: list[int] | None = None) -> Dataset:
    """Rows of classes and nothing else."""
    schema = protocol.DatasetSchema(
        task="classification",
        rows=len(target),
        columns=[protocol.Column(name="x", kind="numeric")],
        target=["y"],
        classes=[str(code) for code in sorted(set(target))],
        ordered=ordered,
    )
    groups = None if group is None else np.array(group)
    rows = np.arange(len(target))
    return Dataset(
        schema, rows[:, None].astype(float), np.empty((len(rows), 0), int), np.array(target), None,
        groups,
    )  # fmt: skip


def kept(dataset: Dataset, share: float, seed: tuple[int, int] = (0, 0)) -> np.ndarray[Any, Any]:
    return shortened(dataset, np.arange(dataset.rows), share, seed)


@pytest.mark.parametrize(
    "dataset",
    [
        data([0, 1] * 40),
        data([0, 1] * 40, ordered=True),
        data([0, 1] * 40, group=[row // 3 for row in range(80)]),
    ],
    ids=["rows", "time", "groups"],
)
def test_a_larger_share_has_all_rows_of_a_smaller_one(dataset: Dataset) -> None:
    found = [kept(dataset, share) for share in SHARES]
    for fewer, more in itertools.pairwise(found):
        assert set(fewer) < set(more)
    assert (found[-1] == np.arange(80)).all()
    for share, rows in zip(SHARES, found, strict=True):
        assert (np.diff(rows) > 0).all()
        assert 0 <= len(rows) - 80 * share < 3


def test_classes_keep_their_shares_and_a_rare_one_its_row() -> None:
    dataset = data([0] * 60 + [1] * 37 + [2] * 3)
    assert [int(n) for n in np.bincount(dataset.target[kept(dataset, 0.5)])] == [30, 18, 2]
    assert np.bincount(dataset.target[kept(dataset, 0.03)]).tolist() == [1, 1, 1]


def test_groups_stay_whole() -> None:
    group = [row // 7 for row in range(70)]
    found = kept(data([0, 1] * 35, group=group), 0.33)
    assert len(found) == 28
    for each in {group[row] for row in found}:
        assert set(range(7 * each, 7 * each + 7)) <= set(found)


def test_in_time_the_latest_rows_are_kept() -> None:
    assert kept(data([0, 1] * 10, ordered=True), 0.3).tolist() == list(range(14, 20))


def test_the_seed_decides_and_nothing_else_does() -> None:
    dataset = data([0, 1] * 40)
    assert (kept(dataset, 0.3) == kept(dataset, 0.3)).all()
    assert (kept(dataset, 0.3, (0, 1)) != kept(dataset, 0.3)).any()
    assert (kept(dataset, 0.3, (1, 0)) != kept(dataset, 0.3)).any()


@pytest.mark.parametrize(
    ("dataset", "share"),
    [
        (data([0, 1, 2] * 10), 0.05),
        (data([0] * 30), 0.02),
        (data([0] * 30), 0.001),
        (data([0, 1, 2] * 10, ordered=True), 0.05),
        (data([0] * 20 + [1] * 10, group=[0] * 20 + [1] * 10), 0.1),
    ],
)
def test_too_few_rows_are_refused_with_what_is_needed(dataset: Dataset, share: float) -> None:
    with pytest.raises(errors.InvalidRequest, match="take a larger share") as caught:
        kept(dataset, share)
    assert caught.value.fields[0].field == "params.train_share"


def ran(folder: Path, leases: list[protocol.TrialLease]) -> list[protocol.Tell]:
    blob, channel = training.blob(training.bundled("iris"), folder / "data"), training.Channel()
    objective.run(Work(leases, blob, None, "cpu", 1), channel)
    return [channel.tells[lease.lease_id] for lease in leases]


@pytest.mark.parametrize("model", ["mlp", "logistic_regression"])
def test_each_trial_of_a_pack_trains_on_its_own_share(tmp_path: Path, model: str) -> None:
    params = {"epochs": 2} if model == "mlp" else {}
    shares = (0.1, 0.5, 1.0)
    tells = ran(tmp_path, [training.lease(model, {"train_share": s} | params) for s in shares])
    assert [tell.notes["train_rows"] for tell in tells] == [120 * share for share in shares]
    (whole,) = ran(tmp_path, [training.lease(model, params)])
    assert whole.values == tells[-1].values
    assert whole.values != tells[0].values


def test_a_share_that_leaves_too_few_rows_fails_alone(tmp_path: Path) -> None:
    shares = (0.001, 1.0)
    leases = [training.lease("mlp", {"epochs": 1, "train_share": share}) for share in shares]
    failed, complete = ran(tmp_path, leases)
    assert failed.error is not None
    assert failed.error.reason == "bad_params"
    assert "take a larger share" in failed.error.message
    assert complete.state == "complete"
