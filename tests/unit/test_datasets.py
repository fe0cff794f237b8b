from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hpo_service import datasets, errors, protocol
from hpo_service.artifacts import Blobs
from hpo_service.database import Database
from hpo_service.datasets import DATASETS, Table, split

FIVE_FOLDS = protocol.Validation(folds=5)
K_FOLD = protocol.Validation(method="k_fold")
TIME_SERIES = protocol.Validation(method="time_series")
HOLD_OUT = protocol.Validation(method="hold_out")
LEAVE_ONE_OUT = protocol.Validation(method="leave_one_out")
REPEATED = protocol.Validation(repeats=2)
STRATIFIED = protocol.Validation(stratify=True)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path)


def classified(sizes: list[int], copies: int = 1) -> Table:
    """Classes of these sizes, all rows different; then the whole `copies` times over."""
    target = np.tile(np.repeat(np.arange(len(sizes)), sizes), copies)
    numeric = np.tile(np.arange(sum(sizes), dtype=float), copies)[:, None]
    return _table(numeric, target, [f"class {i}" for i in range(len(sizes))])


def regressed(rows: int) -> Table:
    return _table(np.arange(rows, dtype=float)[:, None], np.arange(rows) / 7, [])


def forecasts(rows: int) -> Table:
    """Rows in the order of time."""
    table = regressed(rows)
    return replace(table, schema=table.schema.model_copy(update={"ordered": True}))


def tagged(codes: np.ndarray, target: np.ndarray | None = None) -> Table:
    """Texts of the symbols a to e, with a class for each step."""
    schema = protocol.DatasetSchema(
        task="classification",
        rows=len(codes),
        columns=[],
        target=["tag"],
        classes=["x", "y"],
        shape=[codes.shape[1]],
        symbols=list("abcde"),
        per_step=True,
    )
    target = codes % 2 if target is None else target
    return Table(schema, np.empty((len(codes), 0)), codes.astype(np.int32), target.astype(np.int64))


def grouped(table: Table, groups: int) -> Table:
    """Rows dealt out to the groups one by one."""
    schema = table.schema.model_copy(update={"grouped": True})
    return replace(table, schema=schema, group=np.arange(schema.rows) % groups)


def with_test_part(table: Table, first: int) -> Table:
    """The rows from `first` on are an official test part."""
    schema = table.schema.model_copy(update={"tested": True})
    return replace(table, schema=schema, test=(np.arange(schema.rows) >= first).astype(np.uint8))


def _table(numeric: np.ndarray, target: np.ndarray, classes: list[str]) -> Table:
    schema = protocol.DatasetSchema(
        task="classification" if classes else "regression",
        rows=len(target),
        columns=[protocol.Column(name="x", kind="numeric")],
        target=["y"],
        classes=classes,
    )
    return Table(schema, numeric, np.empty((len(target), 0), np.int32), target)


def prepare(
    database: Database,
    blobs: Blobs,
    name: str = "iris",
    holdout: float = 0.2,
    validation: protocol.Validation = FIVE_FOLDS,
) -> datasets.Prepared:
    with database.read() as session:
        return datasets.prepare(session, blobs, name, holdout, validation)


def add(
    database: Database, blobs: Blobs, name: str, table: Table, warnings: list[str] | None = None
) -> protocol.Dataset:
    return database.transact(
        lambda session, now: datasets.add(session, now, blobs, name, table, warnings or [])
    )


# --- tables ---------------------------------------------------------------------------------


def test_strided_arrays_are_written_as_they_read() -> None:
    table = DATASETS["iris"].load()
    turned = Table(table.schema, np.asfortranarray(table.numeric), table.categorical, table.target)
    assert turned.sha256 == table.sha256


# --- which rows are held out ----------------------------------------------------------------


def test_held_out_rows_never_change() -> None:
    """Rows held out by an older release must not be searched on by a newer one."""
    held = split.held_out(DATASETS["iris"].load(), 0.2)
    assert held.tolist()[:8] == [3, 15, 23, 26, 28, 31, 38, 40]
    assert len(held) == 30
    assert split.held_out(DATASETS["digits"].load(), 0.2).tolist()[:6] == [3, 6, 7, 16, 21, 27]


def test_classes_are_held_out_in_proportion() -> None:
    table = classified([500, 303, 7, 1])
    held = split.held_out(table, 0.2)
    assert np.bincount(table.target[held], minlength=4).tolist() == [100, 61, 1, 0]
    assert (np.diff(held) > 0).all()


def test_a_larger_share_holds_out_more_of_the_same_rows() -> None:
    table = classified([50, 40])
    assert set(split.held_out(table, 0.1)) < set(split.held_out(table, 0.3))


def test_copies_of_a_row_go_to_the_same_side() -> None:
    table = classified([50, 30], copies=3)
    held = split.held_out(table, 0.2)
    kept = np.setdiff1d(np.arange(240), held)
    assert len(held) == 48
    assert not set(table.numeric[held, 0]) & set(table.numeric[kept, 0])


def test_coarse_data_is_split_row_by_row() -> None:
    table = _table(np.zeros((100, 1)), np.repeat([0, 1], 50), ["a", "b"])
    held = split.held_out(table, 0.2)
    assert np.bincount(table.target[held]).tolist() == [10, 10]


def test_the_last_rows_in_time_are_held_out() -> None:
    assert split.held_out(forecasts(52), 0.2).tolist() == list(range(42, 52))
    assert len(split.held_out(forecasts(52), 0.0)) == 0


def test_copies_of_a_text_go_to_the_same_side() -> None:
    rng = np.random.default_rng(0)
    table = tagged(np.tile(rng.integers(-1, 5, (30, 7)), (3, 1)))
    held = split.held_out(table, 0.2)
    kept = np.setdiff1d(np.arange(90), held)
    texts = [{tuple(row) for row in table.categorical[rows].tolist()} for rows in (held, kept)]
    assert len(held) == 18
    assert not texts[0] & texts[1]
    assert Table.from_bytes(table.take(held).to_bytes()).sha256 == table.take(held).sha256


def test_groups_are_held_out_whole_with_about_the_classes_of_all() -> None:
    # 40 groups of 5 rows, each of one class, three in four of the first.
    table = classified([150, 50])
    table = replace(grouped(table, 40), group=np.arange(200) // 5)
    held = split.held_out(table, 0.2)
    kept = np.setdiff1d(np.arange(200), held)
    assert np.bincount(table.target[held]).tolist() == [30, 10]
    assert table.group is not None
    assert not set(table.group[held]) & set(table.group[kept])


def test_copies_keep_their_groups_together() -> None:
    # The second half repeats the first in groups of its own.
    table = classified([30, 20], copies=2)
    table = replace(grouped(table, 20), group=np.arange(100) // 5)
    held = split.held_out(table, 0.2)
    assert (len(held), set(held[:10] + 50)) == (20, set(held[10:]))


def test_an_official_test_part_is_what_is_held_out(database: Database, blobs: Blobs) -> None:
    add(database, blobs, "mine", with_test_part(regressed(60), 50))
    assert split.held_out(with_test_part(regressed(60), 50), 0.4).tolist() == list(range(50, 60))
    assert prepare(database, blobs, "mine", 0.2).search_rows == 50
    # With nothing held out its rows are searched on like others.
    assert prepare(database, blobs, "mine", 0.0).search_rows == 60


# --- what a study gets ----------------------------------------------------------------------


def test_a_study_gets_two_parts_in_stored_order(database: Database, blobs: Blobs) -> None:
    prepared = prepare(database, blobs)
    search = Table.from_bytes(blobs.read(prepared.search_sha256))
    assert prepared.holdout_sha256 is not None
    held_out = Table.from_bytes(blobs.read(prepared.holdout_sha256))
    whole = DATASETS["iris"].load()
    held = split.held_out(whole, 0.2)
    kept = np.setdiff1d(np.arange(150), held)
    assert np.array_equal(search.numeric, whole.numeric[kept])
    assert np.array_equal(held_out.target, whole.target[held])
    assert (prepared.search_rows, prepared.schema.rows, held_out.schema.rows) == (120, 150, 30)
    assert prepare(database, blobs) == prepared


def test_with_nothing_held_out_the_search_has_all_rows(database: Database, blobs: Blobs) -> None:
    prepared = prepare(database, blobs, "diabetes", holdout=0.0)
    assert prepared.search_sha256 == DATASETS["diabetes"].load().sha256
    assert (prepared.holdout_sha256, prepared.search_rows) == (None, 442)


@pytest.mark.parametrize(
    ("table", "holdout", "validation", "field", "message"),
    [
        (classified([90, 3]), 0.2, FIVE_FOLDS, "validation.folds", "'class 1' has 2 in the"),
        (classified([90, 3]), 0.2, FIVE_FOLDS, "validation.folds", "take at most 2 folds"),
        (classified([90, 1]), 0.0, FIVE_FOLDS, "validation.folds", "remove its rows from the"),
        (regressed(11), 0.2, FIVE_FOLDS, "validation.folds", "at least 10 rows"),
        (forecasts(14), 0.2, FIVE_FOLDS, "validation.folds", "at least 12 rows"),
        (tagged(np.eye(4, dtype=int)), 0.0, FIVE_FOLDS, "validation.folds", "at least 5 rows"),
        (tagged(np.eye(4, dtype=int)), 0.25, FIVE_FOLDS, "holdout", "at least 2"),
        (forecasts(90), 0.2, K_FOLD, "validation.method", "in the order of time"),
        (forecasts(90), 0.2, REPEATED, "validation.repeats", "the same"),
        (forecasts(90), 0.2, STRATIFIED, "validation.stratify", "leave it out"),
        (regressed(90), 0.2, STRATIFIED, "validation.stratify", "leave it out"),
        (tagged(np.eye(40, dtype=int)), 0.2, STRATIFIED, "validation.stratify", "leave it out"),
        (regressed(90), 0.2, TIME_SERIES, "validation.method", "take k_fold"),
        (forecasts(90), 0.2, HOLD_OUT, "validation.method", "take time_series"),
        (grouped(forecasts(90), 9), 0.2, FIVE_FOLDS, "dataset", "no folds heed both"),
        (classified([90, 1]), 0.0, HOLD_OUT, "validation.folds", "2 rows of each class"),
        (classified([3, 3, 3]), 0.0, HOLD_OUT, "validation.share", "2 to score (at least 3 each)"),
        (regressed(9), 0.0, HOLD_OUT.model_copy(update={"share": 0.9}), "validation.share", "0 to"),
        (regressed(501), 0.0, LEAVE_ONE_OUT, "validation.method", "each of the 501 rows"),
        (
            regressed(20),
            0.0,
            LEAVE_ONE_OUT.model_copy(update={"repeats": 2}),
            "validation.repeats",
            "the same",
        ),
        (
            classified([9, 9]),
            0.0,
            LEAVE_ONE_OUT.model_copy(update={"stratify": True}),
            "validation.stratify",
            "leave it out",
        ),
        (grouped(regressed(90), 4), 0.0, FIVE_FOLDS, "validation.folds", "take at most 4 folds"),
        (grouped(regressed(90), 1), 0.0, FIVE_FOLDS, "validation.folds", "leave the groups out"),
        (grouped(regressed(90), 1), 0.0, HOLD_OUT, "validation.share", "1 groups leaves 0"),
        (
            grouped(classified([90, 90]), 9),
            0.0,
            HOLD_OUT.model_copy(update={"stratify": True}),
            "validation.stratify",
            "whole groups",
        ),
        (grouped(regressed(90), 3), 0.2, FIVE_FOLDS, "holdout", "in whole groups holds out 0"),
        (
            with_test_part(regressed(90), 89),
            0.2,
            FIVE_FOLDS,
            "holdout",
            "official test part has 1 rows",
        ),
        (regressed(40), 0.01, FIVE_FOLDS, "holdout", "holds out 0, too few to score"),
        (classified([9, 9, 9]), 0.05, FIVE_FOLDS, "holdout", "at least 3"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    database: Database,
    blobs: Blobs,
    table: Table,
    holdout: float,
    validation: protocol.Validation,
    field: str,
    message: str,
) -> None:
    add(database, blobs, "mine", table)
    with pytest.raises(errors.InvalidRequest) as caught:
        prepare(database, blobs, "mine", holdout, validation)
    assert caught.value.fields[0].field == f"objective.{field}"
    assert message in caught.value.message


def test_a_rare_class_is_fine_without_stratification(database: Database, blobs: Blobs) -> None:
    add(database, blobs, "mine", classified([90, 3]))
    unstratified = protocol.Validation(folds=5, stratify=False)
    assert prepare(database, blobs, "mine", 0.2, unstratified).search_rows == 74


def test_the_data_chooses_the_method(database: Database, blobs: Blobs) -> None:
    add(database, blobs, "series", forecasts(60))
    add(database, blobs, "tags", tagged(np.arange(200).reshape(40, 5) % 5))
    for name, method in (("iris", "k_fold"), ("series", "time_series"), ("tags", "k_fold")):
        found = prepare(database, blobs, name)
        assert found.validation.method == method
        assert prepare(database, blobs, name, 0.2, found.validation) == found


def test_an_unknown_name_is_refused_with_the_choice(database: Database, blobs: Blobs) -> None:
    for name in ("digit", "a\0b"):
        with pytest.raises(errors.InvalidRequest, match="choose one of digits, iris"):
            prepare(database, blobs, name)
        with database.read() as session, pytest.raises(errors.NotFound, match="choose one of"):
            datasets.describe(name, session)


# --- uploads --------------------------------------------------------------------------------


def test_an_upload_is_listed_after_the_built_in_ones(database: Database, blobs: Blobs) -> None:
    table = classified([20, 30])
    added = add(database, blobs, "mine", table, ["odd"])
    with database.read() as session:
        assert datasets.describe("mine", session) == added
        listed = datasets.listing(session)
    assert [dataset.name for dataset in listed] == [*DATASETS, "mine"]
    assert listed[-1] == added
    assert added.description == "Uploaded: 50 rows, 1 column, classification of y (2 classes)."
    assert (added.contents, added.sha256, added.warnings) == (table.schema, table.sha256, ["odd"])
    assert blobs.read(table.sha256) == table.to_bytes()


def test_a_name_is_given_once(database: Database, blobs: Blobs) -> None:
    added = add(database, blobs, "mine", classified([20, 30]))
    assert add(database, blobs, "mine", classified([20, 30])) == added
    for name in ("mine", "iris"):
        with pytest.raises(errors.NameTaken):
            add(database, blobs, name, classified([30, 30]))


def test_importing_loads_no_numerical_library() -> None:
    heavy = "torch", "numpy", "pandas", "sklearn", "matplotlib"
    code = (
        "import sys, hpo_service.datasets, hpo_service.artifacts; "
        f"sys.exit(' '.join(set({heavy}) & set(sys.modules)) or None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_left_out_one_by_one_has_no_more_fresh_folds_than_groups(
    database: Database, blobs: Blobs
) -> None:
    for name, groups, folds in (("few", 3, 3), ("many", 9, 5)):
        add(database, blobs, name, grouped(regressed(90), groups))
        found = prepare(database, blobs, name, 0.0, LEAVE_ONE_OUT).validation
        assert (found.method, found.folds) == ("leave_one_out", folds)
