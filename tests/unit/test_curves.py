"""Which of the points of several attempts make the curve."""

from __future__ import annotations

import pytest

from hpo_service import curves
from hpo_service.database import Database
from hpo_service.tables import Report
from tests.searching import NOW, Bench


@pytest.mark.parametrize(
    ("resumed_at", "expected"),
    [
        (0, {1: 2.1}),  # the second attempt began anew: what it has not reached is not there
        (2, {1: 2.1, 2: 1.2}),
        (3, {1: 2.1, 2: 1.2, 3: 1.3}),
    ],
)
def test_the_newest_attempt_hides_what_older_ones_did_beyond_its_start(
    database: Database, resumed_at: int, expected: dict[int, float]
) -> None:
    bench = Bench(database).study()
    trial = bench.row()
    bench.attempt(trial, 1)
    bench.attempt(trial, 2, resume_step=resumed_at)
    with database.write() as (session, _):
        for attempt, step in ((1, 1), (1, 2), (1, 3), (2, 1)):
            value = attempt + step / 10
            session.add(
                Report(trial_id=trial, attempt=attempt, step=step, values=[value], created_at=NOW)
            )
    with database.read() as session:
        found = curves.load(session, [trial, trial + 1])
    assert {row.step: row.values[0] for row in found[trial]} == expected
    assert list(found) == [trial]
