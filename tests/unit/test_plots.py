from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from hpo_service import errors, plots
from hpo_service.database import Database
from hpo_service.storage import Storage
from hpo_service.tables import Report, Study, Trial
from tests.conftest import START

SPACE: dict[str, BaseDistribution] = {
    "rate": FloatDistribution(1e-4, 1.0, log=True),
    "layers": IntDistribution(1, 4),
    "kind": CategoricalDistribution(["sgd", "adam"]),
    "train_share": FloatDistribution(0.1, 1.0),
}


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    opened = Database(sqlite_url)
    yield opened
    opened.close()


@pytest.fixture
def storage(database: Database) -> Storage:
    return Storage(database)


def params(number: int) -> dict[str, Any]:
    found = {"rate": 10 ** (-(number % 5)), "layers": 1 + number % 4, "kind": "sgd"}
    found["train_share"] = 0.1 + 0.1 * (number % 10)
    # Every third trial is a conditional one.
    return found | {"kind": "adam"} if number % 3 else {n: found[n] for n in found if n != "kind"}


def fill(
    database: Database,
    values: list[list[float | None]],
    *,
    space: dict[str, BaseDistribution] | None = None,
    given: dict[str, Any] | None = None,
    directions: tuple[str, ...] = ("maximize",),
    steps: int = 3,
    folds: int = 2,
) -> None:
    """A study `s` with a completed trial for each list of values, and one that is running."""
    ranges = SPACE if space is None else space
    with database.write() as (session, _):
        study = Study(
            name="s",
            kind="external",
            directions=list(directions),
            state="running",
            seed=0,
            n_trials=len(values) + 1,
            created_at=START,
        )
        session.add(study)
        session.flush()
        for number, final in enumerate([*values, None]):
            chosen = params(number) if given is None else given
            trial = Trial(
                study_id=study.id,
                kind="search",
                number=number,
                state="running" if final is None else "complete",
                params=chosen,
                distributions={name: distribution_to_json(ranges[name]) for name in chosen},
                values=final,
                epoch=steps,
                created_at=START,
            )
            session.add(trial)
            session.flush()
            for step in range(1, steps + 1):
                # The first step of each trial has diverged.
                point = None if final is None or step == 1 else final[0]
                session.add(
                    Report(
                        trial_id=trial.id,
                        attempt=1,
                        step=step,
                        values=[point] * len(directions),
                        by_fold=[[point] * folds] * len(directions) if folds else [],
                        created_at=START,
                    )
                )


def rising(trials: int) -> list[list[float | None]]:
    """The smaller the rate, the better."""
    return [[0.5 + 0.1 * (number % 5) + 0.001 * number] for number in range(trials)]


@pytest.mark.parametrize("plot", plots.PLOTS)
@pytest.mark.parametrize(("format", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_every_plot_is_drawn_in_every_format(
    database: Database, storage: Storage, plot: str, format: plots.Format, start: bytes
) -> None:
    fill(database, rising(9))
    assert plots.draw(storage, "s", plot, format).startswith(start)


HARD_CASES: dict[str, dict[str, Any]] = {
    "two values": {
        "values": [[0.1 * i, 9.0 - i % 4] for i in range(9)],
        "directions": ("maximize", "minimize"),
    },
    "an outlier": {"values": [*rising(9), [-1e300]]},
    "not finite": {"values": [*rising(6), [math.inf], [-math.inf], [math.nan]]},
    "no folds": {"values": rising(9), "folds": 0},
    "one parameter": {"values": rising(9), "given": {"rate": 0.1}},
    "names that mean something to matplotlib": {
        "values": rising(5),
        "space": {"$\\frac{$_%": FloatDistribution(0, 1), "x" * 100: FloatDistribution(0, 1)},
        "given": {"$\\frac{$_%": 0.5, "x" * 100: 0.5},
    },
    "choices of all kinds": {
        "values": rising(5),
        "space": {"a": CategoricalDistribution([None, True, 2.5, "$x$", "y" * 1000])},
        "given": {"a": "y" * 1000},
    },
}


@pytest.mark.parametrize(
    ("plot", "case"),
    [
        (plot, case)
        for plot in plots.PLOTS
        for case, given in HARD_CASES.items()
        # Only where shares of the rows were tried is there a curve over them.
        if plot != "learning_curve" or "given" not in given
    ],
)
def test_hard_cases_are_drawn(database: Database, storage: Storage, plot: str, case: str) -> None:
    fill(database, **HARD_CASES[case])
    picture = plots.draw(storage, "s", plot, "png")
    width, height = (int.from_bytes(picture[at : at + 4], "big") for at in (16, 20))
    assert 500 < width < 2500
    assert 200 < height < 2500


@pytest.mark.parametrize(
    ("plot", "trials"),
    [
        ("optimization_history", 0),
        ("learning_curves", 0),
        ("learning_curve", 1),
        ("param_importances", 3),
        ("parallel_coordinate", 1),
        ("slice", 1),
    ],
)
def test_too_few_trials_are_said(
    database: Database, storage: Storage, plot: str, trials: int
) -> None:
    fill(database, rising(trials))
    with pytest.raises(errors.WrongState, match=f"there are {trials} so far"):
        plots.draw(storage, "s", plot, "png")


def test_what_cannot_be_shown_is_said(database: Database, storage: Storage) -> None:
    fill(database, [[0.5]] * 5, steps=1)
    with pytest.raises(errors.WrongState, match="more than one step"):
        plots.draw(storage, "s", "learning_curves", "png")
    with pytest.raises(errors.WrongState, match="the same value"):
        plots.importances(storage, "s")


def test_trials_without_parameters_are_said(database: Database, storage: Storage) -> None:
    fill(database, rising(5), given={})
    for plot in ("parallel_coordinate", "slice", "param_importances"):
        with pytest.raises(errors.WrongState, match="no parameters"):
            plots.draw(storage, "s", plot, "png")


def test_unknown_names_are_not_found(database: Database, storage: Storage) -> None:
    fill(database, rising(1))
    with pytest.raises(errors.NotFound, match="no study 't'"):
        plots.draw(storage, "t", "slice", "png")
    with pytest.raises(errors.NotFound, match="choose one of optimization_history"):
        plots.draw(storage, "s", "pie", "png")


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_importances_name_what_mattered_first(
    database: Database, storage: Storage, direction: str
) -> None:
    fill(database, rising(60), directions=(direction,))
    found = plots.importances(storage, "s")
    assert next(iter(found)) == "rate"
    assert sum(found.values()) == pytest.approx(1)


def test_equal_pictures_have_equal_bytes(database: Database, storage: Storage) -> None:
    fill(database, rising(5))
    pictures = {plots.draw(storage, "s", "learning_curves", "svg") for _ in range(2)}
    assert len(pictures) == 1


def test_drawing_in_many_threads_leaves_no_trace(database: Database, storage: Storage) -> None:
    fill(database, rising(5))
    plots.draw(storage, "s", "slice", "svg")
    before = dict(mpl.rcParams)
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda p: plots.draw(storage, "s", p, "svg"), [*plots.PLOTS] * 2))
    assert drawn[: len(plots.PLOTS)] == drawn[len(plots.PLOTS) :]
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []
