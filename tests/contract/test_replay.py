"""Every sampler: what ran in parallel, in whatever order it ended, is proposed again alike."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from hpo_service import protocol
from hpo_service.database import Database
from hpo_service.replay import replay
from hpo_service.samplers import SAMPLERS
from hpo_service.tables import Study, Trial
from tests.searching import Bench, hash_free

TRIALS = 32


@pytest.fixture
def bench(sqlite_url: str) -> Any:
    database = Database(sqlite_url)
    yield Bench(database)
    database.close()


def run_in_parallel(bench: Bench, trials: int) -> None:
    """Workers that lease one to three trials at once and end them in any order and state."""
    order, running = random.Random(5), list[int]()
    for time in range(trials):
        if time % 9 == 4:
            fixed = {"fixed_params": {"layers": 2}}
            waiting = bench.row("waiting", system_attrs=fixed)
            if time % 2:
                start_waiting(bench, waiting)
                running.append(waiting)
        for proposal in bench.proposals(1 + time % 3):
            running.append(bench.insert(proposal))
        order.shuffle(running)
        while len(running) > order.randint(1, 6):
            end(bench, running.pop(), order)


def start_waiting(bench: Bench, trial_id: int) -> None:
    made = bench.complete(trial_id)
    with bench.database.read() as session:
        attrs = session.get_one(Trial, trial_id).system_attrs | made.system_attrs
    changes = {"params": made.params, "distributions": made.distributions, "system_attrs": attrs}
    bench.update(trial_id, state="running", **changes)


def end(bench: Bench, trial_id: int, order: random.Random) -> None:
    with bench.database.read() as session:
        params = session.get_one(Trial, trial_id).params
    value = sum(hash_free(v) for v in params.values())
    bench.judge((trial_id, 1, value + 1), (trial_id, 2, value))
    state = order.choice(["complete", "complete", "complete", "pruned", "fail", "cancelled"])
    values = [value] if state in ("complete", "pruned") else None
    bench.update(trial_id, state=state, values=values, epoch=2 if values else None)


def replayed(bench: Bench) -> list[protocol.Replayed]:
    with bench.database.read() as session:
        study = session.get_one(Study, bench.study_id)
        return replay(session, study, 0, study.n_trials).trials


@pytest.mark.parametrize("name", [name for name, entry in SAMPLERS.items() if not entry.listed])
def test_each_proposal_is_made_again_from_what_it_knew(bench: Bench, name: str) -> None:
    bench.study(sampler={"name": name})
    run_in_parallel(bench, TRIALS)
    bench.row("waiting", system_attrs={"fixed_params": {"layers": 2}})
    found = replayed(bench)
    assert {each.outcome for each in found} == {"same", "given"}
    assert sum(each.outcome == "same" for each in found) >= 2 * TRIALS - 2


def test_a_listed_setting_is_proposed_again(bench: Bench) -> None:
    bench.study(sampler={"name": "grid", "points": {"lr": 3}})
    for at in range(5):
        for proposal in bench.proposals(2):
            bench.insert(proposal, "complete" if at % 2 else "running", values=[1.0])
    assert [each.outcome for each in replayed(bench)] == ["same"] * 10


def test_what_was_changed_afterwards_is_told_apart(bench: Bench) -> None:
    bench.study(sampler={"name": "tpe"})
    run_in_parallel(bench, 12)
    with bench.database.write() as (session, _):
        trial = session.query(Trial).filter_by(number=3).one()
        trial.params = trial.params | {"lr": 0.0123}
    found = replayed(bench)[3]
    assert found.outcome == "other"
    assert found.replayed is not None
    assert found.replayed | {"lr": 0.0123} == found.params


def test_a_trial_that_does_not_say_what_it_knew_is_unknown(bench: Bench) -> None:
    bench.study(sampler={"name": "tpe"})
    proposal = bench.propose()
    assert proposal is not None
    bench.insert(replace(proposal, system_attrs={}), "complete", values=[1.0])
    assert [each.outcome for each in replayed(bench)] == ["unknown"]
