"""Proposals and judgements: what they see, what they cost, who may ask."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from hpo_service import errors, protocol, suggest
from hpo_service.database import Database
from hpo_service.samplers import gp
from hpo_service.suggest import MAX_WAITING, Searches
from hpo_service.tables import Report, Study
from tests.searching import Bench

X = {"x": {"type": "float", "low": 0.0, "high": 1.0}}
FIXED_X = {"x": '{"name": "FloatDistribution", "attributes": {"low": 0.0, "high": 1.0}}'}


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """The SQL that is sent meanwhile."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    event.listen(database.reader, "before_cursor_execute", note)
    yield seen
    event.remove(database.reader, "before_cursor_execute", note)


class TestProposing:
    @pytest.mark.parametrize("sampler", ["tpe", "gp"])
    def test_running_trials_count_so_that_parallel_workers_keep_apart(
        self, bench: Bench, sampler: str
    ) -> None:
        after = {}
        for state in ("running", "fail"):  # failed trials are no part of a model's history
            bench.study(name=state, sampler={"name": sampler}, search_space=X)
            for i in range(12):
                row = {"params": {"x": i / 12}, "distributions": FIXED_X}
                bench.row("complete", values=[(i / 12 - 0.5) ** 2], **row)
            for _ in range(4):
                bench.row(state, params={"x": 0.5}, distributions=FIXED_X)
            after[state] = bench.propose()
        assert after["running"] != after["fail"]

    def test_attributes_that_a_sampler_notes_come_with_the_proposal(self, bench: Bench) -> None:
        bench.study(sampler={"name": "gp"}, search_space=X | {"y": X["x"]}).run(12)
        proposal = bench.propose()
        assert proposal is not None
        assert any(key.startswith("gp:") for key in proposal.system_attrs)

    def test_what_has_ended_is_read_once(self, bench: Bench) -> None:
        bench.study().run(20)
        bench.propose()
        with statements(bench.database) as seen:
            bench.propose()
        assert len(seen) - sum("BEGIN" in s for s in seen) <= 3
        assert not any("FROM reports" in s for s in seen)

    def test_an_edit_of_something_finished_is_seen(self, bench: Bench) -> None:
        bench.study(
            sampler={"name": "grid"}, search_space={"n": {"type": "int", "low": 1, "high": 2}}
        )
        proposal = bench.propose()
        assert proposal is not None
        first = bench.insert(proposal, "complete", values=[1.0])
        second = bench.propose()
        assert second is not None
        assert (second.number, second.params) == (1, {"n": 2})
        bench.update(first, params={"n": 2})
        with bench.database.write() as (session, _):
            session.get_one(Study, bench.study_id).revision += 1
        again = bench.propose()
        assert again is not None
        assert (again.number, again.params) == (1, {"n": 1})

    def test_a_sampler_that_fails_is_replaced_for_that_trial(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(*_: Any) -> None:
            raise ArithmeticError("singular matrix")

        monkeypatch.setattr(gp.GpSampler, "propose", fail)
        with caplog.at_level(logging.CRITICAL):
            proposal = bench.study(sampler={"name": "gp"}).propose()
        assert proposal is not None
        assert set(proposal.params) >= {"lr", "optimizer", "layers"}
        assert proposal.system_attrs["sampler_error"] == "ArithmeticError: singular matrix"

    def test_a_study_made_by_an_optuna_client_has_nothing_to_propose(self, bench: Bench) -> None:
        bench.study()
        with bench.database.write() as (session, _):
            session.get_one(Study, bench.study_id).spec = None
        with pytest.raises(errors.WrongState):
            bench.propose()


class TestSpares:
    """A sampler that takes long prepares trials for callers who come while it is at work."""

    def spare(self, bench: Bench) -> suggest.Proposal | None:
        with bench.database.read() as session:
            return bench.searches.spare(session.get_one(Study, bench.study_id))

    def test_who_finds_the_sampler_at_work_gets_one_that_was_prepared(self, bench: Bench) -> None:
        bench.study(sampler={"name": "gp"}, search_space=X | {"y": X["x"]}).run(12)
        first = bench.propose()
        assert first is not None
        bench.insert(first)
        with bench.searches.turn(bench.study_id):
            found = [self.spare(bench) for _ in range(suggest.SPARES + 1)]
        assert found.pop() is None
        assert all(each is not None and each.number == 13 for each in found)
        params = [first.params, *(each.params for each in found if each is not None)]
        assert len({tuple(each.items()) for each in params}) == suggest.SPARES + 1

    def test_the_sampler_is_asked_again_when_a_result_has_arrived(self, bench: Bench) -> None:
        bench.study(sampler={"name": "gp"}, search_space=X).run(12)
        asked = bench.searches.samples
        running = [bench.insert(proposal) for _ in range(3) if (proposal := bench.propose())]
        assert bench.searches.samples == asked + 1
        bench.update(running[0], state="complete", values=[0.0])
        bench.propose()
        assert bench.searches.samples == asked + 2

    def test_a_quick_sampler_prepares_none(self, bench: Bench) -> None:
        bench.study().run(2)
        assert self.spare(bench) is None


class TestCompleting:
    def test_fixed_parameters_are_kept_and_the_others_sampled(self, bench: Bench) -> None:
        fixed = {"optimizer": "sgd", "lr": 0.01}
        trial = bench.study().row("waiting", system_attrs={"fixed_params": fixed})
        proposal = bench.complete(trial)
        assert set(proposal.params) >= {"lr", "optimizer", "layers", "momentum"}
        assert {name: proposal.params[name] for name in fixed} == fixed
        assert set(proposal.distributions) == set(proposal.params)

    def test_whole_settings_are_taken_as_they_are_without_asking_a_sampler(
        self, bench: Bench
    ) -> None:
        fixed = {"optimizer": "adam", "lr": 0.1, "layers": 2}
        trial = bench.study().row("waiting", params=fixed)
        assert bench.complete(trial).params == fixed
        assert bench.searches.samples == 0

    def test_what_optuna_enqueued_outside_the_space_is_sampled_anew(self, bench: Bench) -> None:
        fixed = {"x": 7.0, "unknown": 1}
        trial = bench.study(search_space=X).row("waiting", system_attrs={"fixed_params": fixed})
        params = bench.complete(trial).params
        assert list(params) == ["x"]
        assert 0 <= params["x"] <= 1  # type: ignore[operator]

    def test_a_whole_number_for_a_float_becomes_one(self, bench: Bench) -> None:
        trial = bench.study(search_space=X).row("waiting", params={"x": 1})
        assert type(bench.complete(trial).params["x"]) is float


class TestTurns:
    def test_another_caller_is_sent_away_after_a_moment(self) -> None:
        searches = Searches()
        with searches.turn(1) as first, searches.turn(1) as second, searches.turn(2) as other:
            assert first is not None
            assert second is None
            assert other is not None
        with searches.turn(1) as again:
            assert again is first

    def test_where_many_wait_nobody_else_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(suggest, "TURN_SECONDS", 30.0)
        searches = Searches()
        entered: list[bool] = []

        def wait() -> None:
            with searches.turn(1) as search:
                entered.append(search is not None)

        threads = [threading.Thread(target=wait) for _ in range(MAX_WAITING)]
        with ExitStack() as stack:
            stack.enter_context(searches.turn(1))
            stack.enter_context(searches.turn(2))
            for thread in threads:
                thread.start()
            while searches._waiting < MAX_WAITING:
                pass
            with searches.turn(2) as search:  # at once, though 30 s are allowed
                assert search is None
        for thread in threads:
            thread.join()
        assert entered == [True] * MAX_WAITING


class TestJudging:
    def test_without_a_pruner_nothing_is_read(self, bench: Bench) -> None:
        trial = bench.study().row()
        with bench.database.read() as session:
            study = session.get_one(Study, bench.study_id)
            with statements(bench.database) as seen:
                (judged,) = bench.searches.judge(session, study, [_point(trial, 3, 1.0)])
        assert judged == protocol.Decision(action="continue", step=3)
        assert seen == []

    def test_a_sampler_at_work_does_not_keep_reports_waiting(self, bench: Bench) -> None:
        trial = bench.study(pruner={"name": "asha"}).row()
        with bench.searches.turn(bench.study_id):
            assert bench.judge((trial, 2, 1.0)) == ["continue"]


def _point(trial_id: int, step: int, value: float) -> Any:
    return Report(trial_id=trial_id, attempt=1, step=step, values=[value])
