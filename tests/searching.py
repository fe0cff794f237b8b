"""Rows for tests of the search: studies and trials as the rest of the server stores them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hpo_service import protocol
from hpo_service.database import Database
from hpo_service.proposing import Proposal
from hpo_service.suggest import Search, Searches
from hpo_service.tables import Attempt, Report, Study, Trial

NOW = datetime(2026, 1, 1, tzinfo=UTC)

SPACE: dict[str, Any] = {
    "lr": {"type": "float", "low": 1e-4, "high": 0.1, "log": True},
    # Declared before the parameter that decides whether it exists.
    "nesterov": {"type": "categorical", "choices": [True, False], "when": {"momentum": [0.5, 0.9]}},
    "momentum": {
        "type": "float",
        "low": 0.0,
        "high": 0.9,
        "step": 0.1,
        "when": {"optimizer": ["sgd"]},
    },
    "optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
    "layers": {"type": "int", "low": 1, "high": 4},
}


def spec_of(**more: Any) -> protocol.StudySpec:
    """The spec of an external study over `SPACE`, or whatever else is given."""
    given: dict[str, Any] = {
        "name": "study",
        "objective": {"kind": "external", "directions": ["minimize"]},
        "search_space": SPACE,
        "sampler": {"name": "random"},
        "budget": {"trials": 1000},
    }
    return protocol.StudySpec.model_validate(given | more)


class Bench:
    """A study in a database and the searches of a process, without the rest of the server."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.searches = Searches()
        self.study_id = 0

    def study(self, kind: str = "external", **more: Any) -> Bench:
        """Store a study of this spec; all else is about it."""
        spec = spec_of(**more)
        directions = getattr(spec.objective, "directions", ["minimize"])
        with self.database.write() as (session, now):
            row = Study(
                name=spec.name,
                kind=kind,
                spec=spec.model_dump(mode="json"),
                directions=directions,
                state="running",
                seed=spec.seed,
                created_at=now,
            )
            session.add(row)
            session.flush()
            self.study_id = row.id
        return self

    def propose(self) -> Proposal | None:
        found = self.proposals(1)
        return found[0] if found else None

    def proposals(self, count: int, *, alike: int = 1) -> list[Proposal]:
        with self.searches.turn(self.study_id) as search, self.database.read() as session:
            assert isinstance(search, Search)
            study = session.get_one(Study, self.study_id)
            return search.propose(session, study, count, alike=alike)

    def complete(self, trial_id: int) -> Proposal:
        with self.searches.turn(self.study_id) as search, self.database.read() as session:
            assert isinstance(search, Search)
            study, trial = session.get_one(Study, self.study_id), session.get_one(Trial, trial_id)
            return search.complete(session, study, trial)

    def insert(self, proposal: Proposal, state: str = "running", **more: Any) -> int:
        """Store a proposal as the next trial."""
        names = ("params", "distributions", "system_attrs")
        return self.row(state=state, **{name: getattr(proposal, name) for name in names} | more)

    def row(self, state: str = "running", **more: Any) -> int:
        """Store a search row under the next number; its id."""
        with self.database.write() as (session, now):
            study = session.get_one(Study, self.study_id)
            row = Trial(
                study_id=study.id,
                kind="search",
                number=study.n_trials,
                state=state,
                created_at=now,
                started_at=None if state == "waiting" else now,
                ended_at=None if state in protocol.UNFINISHED else now,
                **more,
            )
            study.n_trials += 1
            session.add(row)
            session.flush()
            return row.id

    def run(self, n_trials: int) -> list[dict[str, Any]]:
        """Propose, evaluate and store so many trials, one after the other; their params."""
        found = []
        for number in range(n_trials):
            proposal = self.propose()
            assert proposal is not None
            found.append(proposal.params)
            value = sum(hash_free(v) for v in proposal.params.values())
            state = "fail" if number % 7 == 6 else "complete"
            self.insert(proposal, state, values=[value] if state == "complete" else None)
        return found

    def update(self, trial_id: int, **columns: Any) -> None:
        with self.database.write() as (session, _):
            row = session.get_one(Trial, trial_id)
            for name, value in columns.items():
                setattr(row, name, value)

    def judge(self, *points: tuple[Any, ...], attempt: int = 1) -> list[str]:
        """Judge points (trial id, step, value, folds) in one batch and store them; the actions.

        Of several metrics value and folds are lists of them; the folds may be left out.
        """
        rows = [_point(attempt, *point) for point in points]
        with self.database.write() as (session, _):
            study = session.get_one(Study, self.study_id)
            decisions = self.searches.judge(session, study, rows)
            for row, decision in zip(rows, decisions, strict=True):
                row.action = decision.action
                session.add(row)
        return [decision.action for decision in decisions]

    def attempt(self, trial_id: int, attempt: int, resume_step: int = 0) -> None:
        with self.database.write() as (session, now):
            session.add(
                Attempt(
                    lease_id=f"{trial_id}-{attempt}",
                    trial_id=trial_id,
                    attempt=attempt,
                    worker="w",
                    token="",
                    resume_step=resume_step,
                    started_at=now,
                )
            )


def _point(attempt: int, trial_id: int, step: int, value: Any, folds: Any = ()) -> Report:
    values = value if isinstance(value, list) else [value]
    by_fold = folds if not folds or isinstance(folds[0], list) else [folds]
    return Report(
        trial_id=trial_id, attempt=attempt, step=step, values=values, by_fold=list(by_fold),
        created_at=NOW,
    )  # fmt: skip


def hash_free(value: Any) -> float:
    """A number for any parameter, the same in each process."""
    return float(value) if isinstance(value, int | float) else float(len(str(value)))
