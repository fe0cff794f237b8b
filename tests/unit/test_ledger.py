"""What samplers are told of a study's trials."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hpo_service.constraints import cube_of
from hpo_service.database import Database
from hpo_service.ledger import Ledger
from hpo_service.samplers import gp_data
from hpo_service.seen import Seen
from hpo_service.tables import Study
from tests.searching import Bench, spec_of

X = {"x": {"type": "float", "low": 0.0, "high": 1.0}}
CUBE = cube_of(spec_of(search_space=X))


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database).study(search_space=X)


def ledger_of(bench: Bench) -> Any:
    """A function that reads the study on, as one search does."""
    with bench.database.read() as session:
        study = session.get_one(Study, bench.study_id)
        ledger = Ledger(study, CUBE)

    def at(step: int) -> tuple[Seen, list[float]]:
        with bench.database.read() as session:
            seen = ledger.seen(session, session.get_one(Study, bench.study_id))
            return seen, seen.at(step)[:, 0].tolist()

    return at


def test_a_trial_pruned_in_another_attempt_ended_at_that_one_s_last_step(bench: Bench) -> None:
    trial = bench.row(params={"x": 0.5})
    bench.attempt(trial, 1)
    bench.judge(*((trial, step, 1.0) for step in range(1, 10)), attempt=1)
    bench.attempt(trial, 2)
    bench.judge(*((trial, step, 1.0) for step in range(1, 6)), attempt=2)
    bench.update(trial, state="pruned", values=[1.0])
    seen, _ = ledger_of(bench)(1)
    assert seen.steps.tolist() == [5]


def test_curves_are_known_of_what_has_ended_also_after_a_trial_that_does_not(bench: Bench) -> None:
    rows = [bench.row(params={"x": at / 4}) for at in range(4)]
    for at, trial in enumerate(rows):
        bench.judge((trial, 3, at + 0.5))
    bench.update(rows[1], state="complete", values=[1.0])
    curve_at = ledger_of(bench)
    np.testing.assert_equal(curve_at(3)[1], [np.nan, 1.5, np.nan, np.nan])
    bench.update(rows[3], state="pruned", values=[3.5], epoch=3)
    np.testing.assert_equal(curve_at(3)[1], [np.nan, 1.5, np.nan, 3.5])
    bench.update(rows[0], state="complete", values=[0.1])
    np.testing.assert_equal(curve_at(3)[1], [0.5, 1.5, np.nan, 3.5])
    np.testing.assert_equal(curve_at(2)[1], [np.nan] * 4)


def test_a_pruned_trial_is_worth_what_its_last_step_predicts_and_no_more(bench: Bench) -> None:
    """Complete trials end at half of what they had at step 2, but for one that was good early."""
    ends = [0.1, 0.2, 0.3, 0.4, 0.5, 2.0]
    early = [0.2, 0.4, 0.6, 0.8, 1.0, 0.2]
    for at, (end, then) in enumerate(zip(ends, early, strict=True)):
        trial = bench.row("running", params={"x": at / 10})
        bench.judge((trial, 2, then))
        bench.update(trial, state="complete", values=[end])
    for at, then in enumerate((0.1, 0.9)):
        trial = bench.row("running", params={"x": 0.7 + at / 10})
        bench.judge((trial, 2, then))
        bench.update(trial, state="pruned", values=[then], epoch=2)
    bench.row("fail", params={"x": 0.95})
    with bench.database.read() as session:
        study = session.get_one(Study, bench.study_id)
        seen = Ledger(study, CUBE).seen(session, study)
        data = gp_data.read(seen, np.random.default_rng(0))
    assert len(data.values) == 8
    assert data.failed[:, 0].tolist() == [0.95]
    better_early, worse_early = data.values[6], data.values[7]
    # No complete trial was as good as the first: the line alone tells. The second is no better than
    # the worst of those that were as good, outliers drawn in.
    assert data.values[0] < better_early < data.values[4]
    assert data.values[4] < worse_early < data.values[5]
    assert (data.noise[6:] > 0).all()
    assert (data.noise[:6] == 0).all()
