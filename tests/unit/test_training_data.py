"""Folds are scikit-learn's, and nothing of a validation row reaches what is fitted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from sklearn.model_selection import KFold, StratifiedKFold

from hpo_service import protocol
from tests import training
from workers.data.dataset import Dataset
from workers.data.folds import splits
from workers.data.parts import split
from workers.data.preprocessing import Preprocessing


def mixed() -> Dataset:
    """Numbers with gaps and a constant, and a column of three categories."""
    schema = protocol.DatasetSchema(
        task="regression",
        rows=6,
        columns=[
            protocol.Column(name="x", kind="numeric"),
            protocol.Column(name="constant", kind="numeric"),
            protocol.Column(name="never known", kind="numeric"),
            protocol.Column(name="colour", kind="categorical", categories=["r", "g", "b"]),
        ],
        target=["y"],
    )
    gap = np.nan
    numeric = np.array([[1, 3], [2, 3], [gap, 3], [6, 3], [100, 3], [gap, 3]], dtype=float)
    return Dataset(
        schema,
        np.hstack([numeric, np.full((6, 1), gap)]),
        np.array([[0], [1], [0], [-1], [2], [1]]),
        np.array([[10.0], [20], [30], [40], [50], [60]]),
    )


def test_preprocessing_knows_the_training_rows_alone() -> None:
    fitted = Preprocessing.fit(mixed(), np.arange(4))
    inputs = fitted.inputs(mixed(), np.arange(6))
    x = np.array([1, 2, 2, 6])
    np.testing.assert_allclose(inputs[:4, 0], (x - x.mean()) / x.std())
    assert inputs[4, 0] > 10
    assert inputs[5, 0] == inputs[2, 0]
    assert not inputs[:, 1:3].any()
    # Blue is in no training row, so row 4 has no category, like row 3 where it is missing.
    assert inputs[:, 3:].tolist() == [
        [1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0],
    ]  # fmt: skip


def test_a_planted_leak_does_not_pass() -> None:
    data = training.small("regression")
    train, valid = next(splits(data, protocol.Validation(), 0))
    spoiled = replace(data, numeric=data.numeric.copy(), target=data.target.copy())
    spoiled.numeric[valid] *= 1e6
    spoiled.target[valid] *= 1e6
    clean, other = Preprocessing.fit(data, train), Preprocessing.fit(spoiled, train)
    for name, array in clean.arrays().items():
        np.testing.assert_array_equal(array, other.arrays()[name])


def test_folds_are_those_of_scikit_learn() -> None:
    validation = protocol.Validation(folds=4, repeats=2)
    for task, splitter in (("classification", StratifiedKFold), ("regression", KFold)):
        data = training.small(task)  # type: ignore[arg-type]
        wanted = [
            pair
            for repeat in range(2)
            for pair in splitter(4, shuffle=True, random_state=7 + repeat).split(
                data.numeric, data.target
            )
        ]
        for ours, theirs in zip(splits(data, validation, 7), wanted, strict=True):
            np.testing.assert_array_equal(ours[1], theirs[1])
            np.testing.assert_array_equal(ours[0], theirs[0])


def test_an_epoch_uses_every_training_row_once() -> None:
    rows = training.table(training.small("classification", rows=50))
    lanes = training.lanes(rows, "mlp", [({"batch_size": 8}, part, part) for part in range(3)])
    counts = lanes._counts()
    seen: list[list[int]] = [[] for _ in counts]
    for batch in lanes._batches(counts):
        by_lane = batch.rows.view(3, -1)
        for lane, found in enumerate(by_lane.tolist()):
            seen[lane] += found if batch.counts is None else found[: batch.counts[lane]]
    for part, found in enumerate(seen):
        start = rows.offsets[part]
        assert sorted(found) == list(range(start, start + rows.counts[part]))


def test_padding_of_shorter_folds_is_masked() -> None:
    data = training.small("regression", rows=44)
    rows = training.table(data)
    lengths = [
        len(part.valid_inputs)
        for part in split(data, splits(data, protocol.Validation(folds=3), 0))
    ]
    assert rows.valid_mask.sum(1).tolist() == lengths == [15, 15, 14]
    assert rows.valid_inputs.dtype == torch.float64
