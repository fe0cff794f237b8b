"""Folds are scikit-learn's, and nothing of a validation row reaches what is fitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    LeaveOneGroupOut,
    LeaveOneOut,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
    TimeSeriesSplit,
)

from hpo_service import errors, protocol
from tests import training
from workers import metrics
from workers.data.dataset import Dataset
from workers.data.folds import inner_split, per_repeat, splits
from workers.data.layouts import Layout
from workers.data.parts import Table, flatten_steps, split
from workers.data.preprocessing import Preprocessing

LAYOUTS: tuple[Layout, ...] = ("columns", "structured")
CPU = torch.device("cpu")


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


def shaped(shape: list[int], rows: int = 40, seed: int = 0) -> Dataset:
    """Images, or sequences of various lengths, with channels of different scale."""
    rng = np.random.default_rng(seed)
    numeric = rng.standard_normal((rows, *shape))
    if len(shape) == 2:
        numeric = numeric * np.arange(1, shape[1] + 1) + 5
        for at, end in enumerate(rng.integers(2, shape[0] + 1, rows)):
            numeric[at, end:] = np.nan
    else:
        numeric *= np.arange(1, shape[0] + 1)[:, None, None]
    numeric = numeric.reshape(rows, -1)
    schema = protocol.DatasetSchema(
        task="classification",
        rows=rows,
        columns=[protocol.Column(name=str(at), kind="numeric") for at in range(numeric.shape[1])],
        target=["y"],
        classes=["a", "b"],
        shape=shape,
    )
    return Dataset(schema, numeric, np.empty((rows, 0), np.int64), rng.integers(0, 2, rows))


def text(rows: int = 40, per_step: bool = False, steps: int = 6) -> Dataset:
    """Texts of various lengths; of five symbols, the last is in none."""
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 4, (rows, steps))
    for at, end in enumerate(rng.integers(2, steps + 1, rows)):
        codes[at, end:] = -1
    schema = protocol.DatasetSchema(
        task="classification",
        rows=rows,
        columns=[],
        target=["y"],
        classes=["a", "b", "c"],
        shape=[steps],
        symbols=list("vwxyz"),
        per_step=per_step,
    )
    target = np.where(codes < 0, -1, codes % 3) if per_step else rng.integers(0, 3, rows)
    return Dataset(schema, np.empty((rows, 0)), codes, target)


EVERY_KIND = {
    "table": mixed,
    "image": lambda: shaped([2, 3, 4]),
    "sequence": lambda: shaped([7, 3]),
    "text": text,
    "tagging": lambda: text(per_step=True),
}


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


def leaks(data: Dataset, layout: Layout) -> bool:
    """Whether anything that is learnt from training rows changes with the rows that score it."""
    pairs = [next(splits(data, protocol.Validation(folds=3), 0))]
    spoiled = replace(
        data,
        numeric=data.numeric.copy(),
        categorical=data.categorical.copy(),
        target=data.target.copy(),
    )
    scored = pairs[0][1]
    spoiled.numeric[scored] = 1e6
    # A symbol or category that no training row may learn of in this way.
    spoiled.categorical[scored] = 0 if data.schema.kind == "table" else 4
    spoiled.target[scored] = 1
    clean, other = (split(each, pairs, layout)[0] for each in (data, spoiled))
    fitted, found = clean.preprocessing.arrays(), other.preprocessing.arrays()
    learnt = [(fitted[name], found[name]) for name in fitted]
    learnt += [(clean.train_inputs, other.train_inputs), (clean.train_scaled, other.train_scaled)]
    return not all(np.array_equal(one, two) for one, two in learnt)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", [*EVERY_KIND, "regression"])
def test_a_planted_leak_does_not_pass(
    kind: str, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = training.small("regression") if kind == "regression" else EVERY_KIND[kind]()
    assert not leaks(data, layout)
    honest = Preprocessing.fit

    def planted(dataset: Dataset, _rows: object, layout: Layout = "columns") -> Preprocessing:
        return honest(dataset, np.arange(dataset.rows), layout)

    monkeypatch.setattr(Preprocessing, "fit", planted)
    assert leaks(data, layout)


def test_an_image_keeps_its_channels() -> None:
    data = shaped([2, 3, 4])
    fitted = Preprocessing.fit(data, np.arange(30), "structured")
    inputs = fitted.inputs(data, np.arange(30)).reshape(30, 2, 12)
    np.testing.assert_allclose(inputs.mean((0, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(inputs.std((0, 2)), 1)
    # Within a channel one scale for all pixels: their order of size is that of the data.
    raw = data.numeric[:30].reshape(30, 2, 12)
    np.testing.assert_array_equal(inputs.argsort(2), raw.argsort(2))
    assert {name: array.shape for name, array in fitted.arrays().items()}["means"] == (2,)


def test_a_sequence_ends_in_zeros_and_tells_its_length() -> None:
    data = shaped([7, 3])
    data.numeric[0, 4] = np.nan  # one channel of the second step: a gap, not the end
    rows = np.arange(30)
    inputs = Preprocessing.fit(data, rows, "structured").inputs(data, rows)
    steps, lengths = inputs[:, :-1].reshape(30, 7, 3), inputs[:, -1]
    real = ~np.isnan(data.numeric[:30].reshape(30, 7, 3))
    assert lengths.tolist() == [int(np.flatnonzero(row.any(1)).max()) + 1 for row in real]
    assert not steps[~real].any()
    for channel in range(3):
        known = steps[:, :, channel][real[:, :, channel]]
        np.testing.assert_allclose([known.mean(), known.std()], [0, 1], atol=1e-12)


def test_a_sequence_without_any_number_has_one_step() -> None:
    data = shaped([7, 3])
    data.numeric[39] = np.nan
    inputs = Preprocessing.fit(data, np.arange(30), "structured").inputs(data, np.array([39]))
    assert inputs.tolist() == [[0.0] * 21 + [1.0]]


def test_a_text_is_codes_or_counts() -> None:
    data = text()
    data.categorical[:2] = [[0, 3, 0, -1, -1, -1], [4, 1, -1, -1, -1, -1]]
    train, rows = np.array([0, *range(2, 40)]), np.arange(2)
    codes = Preprocessing.fit(data, train, "structured").inputs(data, rows)
    # The symbol of code 4 is in no training row.
    assert codes.tolist() == [[2, 5, 2, 0, 0, 0], [1, 3, 0, 0, 0, 0]]
    fitted = Preprocessing.fit(data, train)
    counts = fitted.inputs(data, train) * fitted.arrays()["scales"] + fitted.arrays()["means"]
    np.testing.assert_allclose(counts[0], [2, 0, 0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(fitted.inputs(data, train).mean(0), 0, atol=1e-12)
    assert fitted.inputs(data, rows)[1, 4] == 0


def test_categories_are_blocks_of_columns() -> None:
    assert Preprocessing.fit(mixed(), np.arange(4), "structured").blocks == ((3, 6),)
    assert Preprocessing.fit(shaped([7, 3]), np.arange(4), "structured").blocks == ()


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


def with_groups(data: Dataset, groups: int) -> Dataset:
    schema = data.schema.model_copy(update={"grouped": True})
    return replace(data, schema=schema, group=np.arange(data.rows) % groups)


@pytest.mark.parametrize(
    ("method", "task", "groups", "splitter"),
    [
        ("hold_out", "classification", 0, lambda seed: StratifiedShuffleSplit(
            1, test_size=0.3, random_state=seed)),
        ("hold_out", "regression", 0, lambda seed: ShuffleSplit(
            1, test_size=0.3, random_state=seed)),
        ("hold_out", "classification", 9, lambda seed: GroupShuffleSplit(
            1, test_size=0.3, random_state=seed)),
        ("k_fold", "classification", 9, lambda seed: StratifiedGroupKFold(
            4, shuffle=True, random_state=seed)),
        ("k_fold", "regression", 9, lambda seed: GroupKFold(
            4, shuffle=True, random_state=seed)),
        ("leave_one_out", "classification", 0, lambda _: LeaveOneOut()),
        ("leave_one_out", "regression", 9, lambda _: LeaveOneGroupOut()),
    ],
)  # fmt: skip
def test_every_method_is_scikit_learns(
    method: Any, task: Any, groups: int, splitter: Callable[[int], Any]
) -> None:
    data = training.small(task)
    data = with_groups(data, groups) if groups else data
    repeats = 1 if method == "leave_one_out" else 2
    validation = protocol.Validation(method=method, folds=4, share=0.3, repeats=repeats)
    wanted = [
        pair
        for repeat in range(repeats)
        for pair in splitter(7 + repeat).split(data.numeric, data.target, data.group)
    ]
    found = list(splits(data, validation, 7))
    assert len(found) == len(wanted) == repeats * per_repeat(data, validation)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours[0], np.sort(theirs[0]))
        np.testing.assert_array_equal(ours[1], np.sort(theirs[1]))
        if data.group is not None:
            assert not set(data.group[ours[0]]) & set(data.group[ours[1]])


def test_inner_rows_are_whole_groups() -> None:
    data = with_groups(training.small("classification", rows=90), 12)
    assert data.group is not None
    kept, inner = inner_split(data, np.arange(0, 90, 2), seed=3)
    assert sorted([*kept, *inner]) == list(range(0, 90, 2))
    assert len(set(data.group[inner])) == 1
    assert not set(data.group[kept]) & set(data.group[inner])
    with pytest.raises(errors.InvalidRequest, match="one group"):
        inner_split(with_groups(data, 1), np.arange(90), seed=3)


def test_folds_in_time_are_those_of_scikit_learn() -> None:
    data = training.small("regression")
    data = replace(data, schema=data.schema.model_copy(update={"ordered": True}))
    wanted = TimeSeriesSplit(4).split(data.numeric)
    for ours, theirs in zip(splits(data, protocol.Validation(folds=4), 7), wanted, strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])


def test_tags_are_never_stratified() -> None:
    data = text(per_step=True)
    wanted = KFold(3, shuffle=True, random_state=0).split(data.target)
    for ours, theirs in zip(splits(data, protocol.Validation(folds=3), 0), wanted, strict=True):
        np.testing.assert_array_equal(ours[1], theirs[1])


def test_inner_rows_are_drawn_by_class_from_the_training_rows() -> None:
    data = training.small("classification", rows=200)
    rows = np.arange(0, 200, 2)
    kept, inner = inner_split(data, rows, seed=3)
    assert len(inner) == 15
    assert sorted([*kept, *inner]) == rows.tolist()
    exact = 0.15 * np.bincount(data.target[rows])
    assert (np.abs(np.bincount(data.target[inner]) - exact) < 1).all()
    np.testing.assert_array_equal(inner_split(data, rows, seed=3)[1], inner)
    assert inner_split(data, rows, seed=4)[1].tolist() != inner.tolist()


def test_inner_rows_of_a_rare_class_are_drawn_all_the_same() -> None:
    data = training.small("classification", rows=40)
    data.target[:] = np.arange(40) == 7
    assert [len(rows) for rows in inner_split(data, np.arange(40), 0)] == [34, 6]


def test_inner_rows_in_time_are_the_last() -> None:
    data = training.small("regression")
    data = replace(data, schema=data.schema.model_copy(update={"ordered": True}))
    kept, inner = inner_split(data, np.arange(20), 0)
    assert (kept.tolist(), inner.tolist()) == ([*range(17)], [17, 18, 19])


def test_nothing_is_fitted_on_inner_rows() -> None:
    data = training.small("regression")
    pairs = list(splits(data, protocol.Validation(folds=3), 0))
    for (train, _), part in zip(pairs, split(data, pairs, inner=True, seed=5), strict=True):
        kept, inner = inner_split(data, train, 5)
        alone = Preprocessing.fit(data, kept)
        np.testing.assert_array_equal(part.train_inputs, alone.inputs(data, kept))
        np.testing.assert_array_equal(part.preprocessing.target_mean, alone.target_mean)
        assert part.inner_inputs is not None
        np.testing.assert_array_equal(part.inner_inputs, alone.inputs(data, inner))
        np.testing.assert_array_equal(part.inner_target, data.target[inner])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_table_tells_what_a_network_is_built_for(kind: str, layout: Layout) -> None:
    data = EVERY_KIND[kind]()
    validation = protocol.Validation(folds=3)
    parts = split(data, splits(data, validation, 0), layout, inner=True)
    rows = Table.of(data.schema, parts, torch.float32, CPU)
    assert (rows.layout, rows.kind) == (layout, data.schema.kind)
    assert (rows.dims, rows.per_step) == (tuple(data.schema.shape or ()), kind == "tagging")
    assert rows.symbols == (7 if data.schema.symbols else 0)
    assert rows.inner_mask is not None
    assert rows.inner_inputs is not None
    assert rows.inner_mask.sum(1).tolist() == [len(part.inner_target) for part in parts]
    assert rows.inner_inputs.shape == (*rows.inner_mask.shape, rows.width)
    assert bool(rows.train_inputs.isfinite().all())
    assert len(rows.train_target) == len(rows.train_inputs)
    steps = rows.dims if rows.per_step else ()
    assert rows.train_target.shape[1:] == (steps or (() if data.schema.classes else (1,)))


def test_without_inner_rows_the_table_has_none() -> None:
    rows = training.table(training.small("regression"))
    assert (rows.inner_inputs, rows.inner_target, rows.inner_mask) == (None, None, None)


def test_steps_are_scored_like_rows_where_they_have_a_class() -> None:
    data = text(rows=11, per_step=True)
    parts = split(data, splits(data, protocol.Validation(folds=3), 0), "structured")
    rows = Table.of(data.schema, parts, torch.float32, CPU)
    lanes, count, steps = rows.valid_target.shape
    logits = torch.randn(lanes, count, steps, 3, dtype=torch.float64)
    flat = flatten_steps(logits.softmax(3).flatten(2), rows.valid_target, rows.valid_mask)
    found = metrics.measure(["log_loss", "accuracy"], *flat)
    for lane, part in enumerate(parts):
        labelled = part.valid_target >= 0
        target = part.valid_target[labelled]
        given = logits[lane, : len(labelled)].softmax(2).numpy()[labelled]
        wanted = log_loss(target, given, labels=range(3))
        np.testing.assert_allclose(found["log_loss"][lane], wanted)
        np.testing.assert_allclose(found["accuracy"][lane], (given.argmax(1) == target).mean())


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
