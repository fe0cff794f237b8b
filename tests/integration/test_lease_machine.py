"""Any order of calls, delays and lies keeps the promises of the lease rules.

The model beside the service knows of each trial only who holds it, until when, and how often it
was lost; after every step the service must agree with it.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import select

from hpo_service import dispatch, errors, leases, plans, protocol, reports, studies
from hpo_service.app import make_service
from hpo_service.database import Database
from hpo_service.settings import Settings
from hpo_service.tables import Attempt, Report, Trial
from tests.conftest import Clock, migrate

TTL = 60
BUDGET = 6


@dataclass
class Model:
    """What must hold of one trial."""

    state: str = "running"
    holder: str | None = None
    deadline: float = 0.0
    lost: int = 0
    told: float | None = None
    acknowledged: dict[tuple[str, int], float] = field(default_factory=dict)


class LeaseMachine(RuleBasedStateMachine):
    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        shutil.copy(self.template, self.folder / "hpo.db")
        self.clock, self.elapsed = Clock(), 0.0
        self.database = Database(f"sqlite:///{self.folder / 'hpo.db'}", clock=self.clock)
        self.service = make_service(Settings(data_dir=self.folder, lease_ttl=TTL), self.database)
        self.service.pulse.clear(self.service.pulse.freeze or 0)
        self.trials: dict[int, Model] = {}
        self.used: list[tuple[str, int]] = []  # every lease id ever granted, with its number
        self._create()

    def _create(self) -> None:
        spec = protocol.StudySpec.model_validate(
            {
                "name": "s",
                "objective": {"kind": "external"},
                "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
                "sampler": {"name": "random"},
                "budget": {"trials": BUDGET},
            }
        )
        with self.database.read() as session:
            planned = plans.plan(session, self.service.blobs, spec)
        study = self.database.transact(lambda s, now: studies.insert(s, now, planned))
        self.study_id = study.id

    def teardown(self) -> None:
        self.database.close()
        shutil.rmtree(self.folder)

    # --- what workers do ----------------------------------------------------------------

    @rule()
    def ask(self) -> None:
        self._ask(str(uuid.uuid4()))

    def _ask(self, lease_id: str) -> None:
        request = protocol.LeaseRequest(worker="w", lease_ids=[lease_id], objectives=["external"])
        granted = dispatch.lease(self.service, request, self.study_id, "").leases
        self._bury()
        free = [n for n, t in self.trials.items() if self._claimable(t)]
        if not granted:
            assert not free
            assert len(self.trials) == BUDGET
            return
        number = granted[0].number
        assert number is not None
        if number in self.trials:
            assert number in free
            model = self.trials[number]
            model.lost += model.state == "running"
        else:
            assert not free
            assert number == len(self.trials)
            model = self.trials.setdefault(number, Model())
        model.state, model.holder, model.deadline = "running", lease_id, self.elapsed + TTL
        self.used.append((lease_id, number))

    def _claimable(self, model: Model) -> bool:
        return model.state == "waiting" or self._expired(model)

    def _expired(self, model: Model) -> bool:
        return model.state == "running" and model.deadline < self.elapsed

    def _bury(self) -> None:
        for model in self.trials.values():
            if self._expired(model) and model.lost >= leases.MAX_LOST - 1:
                model.state, model.lost, model.holder = "fail", model.lost + 1, None

    @rule(seconds=st.sampled_from([1, TTL // 2, TTL + 1, TTL * 5]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.elapsed += seconds

    @precondition(lambda self: self.used)
    @rule(data=st.data(), step=st.integers(1, 3), value=st.sampled_from([0.25, 0.5]))
    def report(self, data: Any, step: int, value: float) -> None:
        lease_id, number = data.draw(st.sampled_from(self.used))
        model = self.trials[number]
        point = protocol.Report(lease_id=lease_id, step=step, values=[value])
        known = model.acknowledged.get((lease_id, step))
        if model.holder == lease_id and known not in (None, value):
            with pytest.raises(errors.ReportConflict):
                self._report(point)
            return
        action = self._report(point).action
        if model.holder == lease_id:
            assert action == "continue"
            model.acknowledged[lease_id, step] = value
            model.deadline = self.elapsed + TTL
        else:
            assert action in ("lost", "stop")

    def _report(self, point: protocol.Report) -> protocol.Decision:
        return self.database.transact(
            lambda s, now: reports.store(
                s, now, self.service.searches, [point], token="", ttl=self.service.ttl
            )
        )[point.lease_id]

    @precondition(lambda self: self.used)
    @rule(data=st.data(), value=st.sampled_from([0.25, 0.5]))
    def tell(self, data: Any, value: float) -> None:
        lease_id, number = data.draw(st.sampled_from(self.used))
        model = self.trials[number]
        told = protocol.Tell(state="complete", values=[value])
        call = lambda s, now: leases.tell(s, now, lease_id, told, token="")  # noqa: E731
        if model.holder == lease_id:
            assert self.database.transact(call).values == [value]
            model.state, model.told, model.holder = "complete", value, None
            return
        try:
            answer = self.database.transact(call)
        except errors.Conflict:
            return
        # Only the very tell that was recorded may be repeated.
        assert (answer.state, answer.values) == ("complete", [model.told])
        assert model.told == value

    @precondition(lambda self: self.used)
    @rule(data=st.data())
    def release(self, data: Any) -> None:
        lease_id, number = data.draw(st.sampled_from(self.used))
        model = self.trials[number]
        call = lambda s, now: leases.release(s, now, lease_id, token="")  # noqa: E731
        if model.holder == lease_id:
            self.database.transact(call)
            model.state, model.holder = "waiting", None
            return
        with contextlib.suppress(errors.Conflict):
            self.database.transact(call)

    @precondition(lambda self: self.trials)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        number = data.draw(st.sampled_from(sorted(self.trials)))
        model = self.trials[number]
        call = lambda s, now: leases.cancel(s, now, self.study_id, number)  # noqa: E731
        if model.state in ("running", "waiting"):
            self.database.transact(call)
            model.state, model.holder = "cancelled", None
        elif model.state != "cancelled":
            with pytest.raises(errors.TrialFinished):
                self.database.transact(call)

    @precondition(lambda self: self.used)
    @rule(data=st.data())
    def ask_again(self, data: Any) -> None:
        """The same id once more: the same trial while it is held, else never a trial again."""
        lease_id, number = data.draw(st.sampled_from(self.used))
        request = protocol.LeaseRequest(worker="w", lease_ids=[lease_id], objectives=["external"])
        if self.trials[number].holder == lease_id:
            (lease,) = dispatch.lease(self.service, request, self.study_id, "").leases
            assert lease.number == number
        else:
            with pytest.raises(errors.LeaseLost):
                dispatch.lease(self.service, request, self.study_id, "")

    # --- what must hold -----------------------------------------------------------------

    @invariant()
    def the_database_agrees(self) -> None:
        with self.database.read() as session:
            rows = {t.number: t for t in session.scalars(select(Trial))}
            assert sorted(rows) == list(range(len(self.trials)))
            for number, model in self.trials.items():
                row = rows[number]
                assert (row.state, row.lease_id) == (model.state, model.holder)
                assert row.lost == model.lost
                assert row.values == (None if model.told is None else [model.told])
                self._points_are_kept(session, row.id, model)
            live = session.scalars(select(Attempt).where(Attempt.outcome.is_(None))).all()
            holders = {t.holder for t in self.trials.values() if t.holder}
            assert {a.lease_id for a in live} == holders

    def _points_are_kept(self, session: Any, trial_id: int, model: Model) -> None:
        attempts = {
            a.attempt: a.lease_id
            for a in session.scalars(select(Attempt).where(Attempt.trial_id == trial_id))
        }
        points = session.scalars(select(Report).where(Report.trial_id == trial_id))
        stored = {(attempts[p.attempt], p.step): p.values[0] for p in points}
        assert stored == model.acknowledged


def test_lease_machine(tmp_path: Path) -> None:
    template = tmp_path / "template.db"
    migrate(f"sqlite:///{template}")

    class Machine(LeaseMachine):
        pass

    Machine.template = template
    case = Machine.TestCase
    case.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
    case().runTest()
