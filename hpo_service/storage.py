"""Our tables as an Optuna storage: Optuna's clients, plots and dashboard run on them.

    study = optuna.load_study(study_name="digits-mlp", storage=Storage(Database(url)))

Only search rows exist here. What leases own is not written: except in an `external` study every
write to a trial raises, and there that to a running trial with a lease. A running trial without
one belongs to an Optuna client and never expires. There is no heartbeat: the lease does that work.
"""

from __future__ import annotations

import copy
import math
import threading
import uuid
import weakref
from collections.abc import Callable, Container, Sequence
from datetime import datetime
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
)
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hpo_service import curves, errors, history, protocol
from hpo_service.database import Database, WriteSession
from hpo_service.tables import Report, Study, Trial

NAME_PREFIX = "no-name-"
STATE_NAMES: dict[TrialState, protocol.TrialState] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "fail",
}


class Storage(BaseStorage):
    """The Optuna storage on our tables; `BaseStorage` says what each method does.

    Methods raise `KeyError` for an unknown study or trial and `UpdateFinishedTrialError` for a
    finished one, as Optuna wants, and `errors.WrongState` for what leases own.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._histories: dict[int, history.History] = {}
        # The first distribution of each parameter, which all later ones must be compatible with.
        self._first: dict[tuple[int, str], BaseDistribution] = {}

    @property
    def database(self) -> Database:
        """The tables behind it, for what Optuna's contract has no words for."""
        return self._database

    def __getstate__(self) -> str:
        return self._database.url.render_as_string(hide_password=False)

    def __setstate__(self, url: str) -> None:
        # Connections cannot travel: a copy opens its own, and closes them when it is gone.
        database = Database(url)
        Storage.__init__(self, database)
        weakref.finalize(self, database.close)

    # --- studies ----------------------------------------------------------------------------

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        name = NAME_PREFIX + str(uuid.uuid4()) if study_name is None else study_name

        def create(session: WriteSession, now: datetime) -> int:
            if session.scalar(select(Study.id).where(Study.name == name)) is not None:
                raise DuplicatedStudyError(f"There is a study named {name!r} already.")
            study = Study(
                name=name,
                kind="external",
                directions=[direction.name.lower() for direction in directions],
                state="running",
                seed=0,
                created_at=now,
            )
            session.add(study)
            session.flush()
            return study.id

        return self._database.transact(create)

    def delete_study(self, study_id: int) -> None:
        self._database.transact(lambda session, _: session.delete(_study(session, study_id)))
        with self._lock:
            self._histories.pop(study_id, None)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._note("user_attrs", key, value, lambda s: _study(s, study_id, lock=True))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._note("system_attrs", key, value, lambda s: _study(s, study_id, lock=True))

    def get_study_id_from_name(self, study_name: str) -> int:
        with self._database.read() as session:
            found = session.scalar(select(Study.id).where(Study.name == study_name))
        if found is None:
            raise KeyError(f"There is no study named {study_name!r}.")
        return found

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._frozen_study(study_id).study_name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._frozen_study(study_id).directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._frozen_study(study_id).user_attrs

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._frozen_study(study_id).system_attrs

    def get_all_studies(self) -> list[FrozenStudy]:
        with self._database.read() as session:
            return [_frozen(study) for study in session.scalars(select(Study).order_by(Study.id))]

    def _frozen_study(self, study_id: int) -> FrozenStudy:
        with self._database.read() as session:
            return _frozen(_study(session, study_id))

    # --- trials: writing --------------------------------------------------------------------

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        def create(session: WriteSession, now: datetime) -> int:
            trial = Trial(
                study_id=study_id,
                kind="search",
                number=_take_number(session, study_id),
                state="running",
                created_at=now,
                started_at=now,
            )
            if template_trial is not None:
                _imitate(trial, template_trial)
            session.add(trial)
            session.flush()
            if template_trial is not None:
                for step, value in template_trial.intermediate_values.items():
                    session.add(_point(trial.id, step, value, now))
            return trial.id

        return self._database.transact(create)

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        def change(session: WriteSession, _now: datetime) -> None:
            trial = _writable(session, trial_id)
            first = self._first_distribution(session, trial.study_id, param_name)
            check_distribution_compatibility(first or distribution, distribution)
            value = distribution.to_external_repr(param_value_internal)
            trial.params = trial.params | {param_name: value}
            text = distribution_to_json(distribution)
            trial.distributions = trial.distributions | {param_name: text}

        self._database.transact(change)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        def change(session: WriteSession, now: datetime) -> bool:
            trial = _writable(session, trial_id, claim=state == TrialState.RUNNING)
            if state == TrialState.RUNNING:
                if trial.state == "running":  # somebody else was first
                    return False
                trial.started_at = now
            trial.state = STATE_NAMES[state]
            if values is not None:
                trial.values = [float(value) for value in values]
            if state.is_finished():
                trial.ended_at = now
            return True

        return self._database.transact(change)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        def change(session: WriteSession, now: datetime) -> None:
            _writable(session, trial_id)
            session.merge(_point(trial_id, step, intermediate_value, now))

        self._database.transact(change)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._note("user_attrs", key, value, lambda s: _writable(s, trial_id))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._note("system_attrs", key, value, lambda s: _writable(s, trial_id))

    def _note(
        self, column: str, key: str, value: Any, locked: Callable[[WriteSession], Study | Trial]
    ) -> None:
        def change(session: WriteSession, _now: datetime) -> None:
            row = locked(session)
            setattr(row, column, getattr(row, column) | {key: value})

        self._database.transact(change)

    def _first_distribution(
        self, session: Session, study_id: int, name: str
    ) -> BaseDistribution | None:
        key = (study_id, name)
        if key not in self._first:
            for trial in self._history(study_id).trials(session, _study(session, study_id)):
                if name in trial.distributions:
                    self._first[key] = trial.distributions[name]
                    break
        return self._first.get(key)

    # --- trials: reading --------------------------------------------------------------------

    def get_trial(self, trial_id: int) -> FrozenTrial:
        with self._database.read() as session:
            trial = session.get(Trial, trial_id)
            if trial is None or trial.kind != "search":
                raise KeyError(f"There is no trial with id {trial_id}.")
            curve = curves.load(session, [trial_id], values_only=True)
            return history.frozen(trial, curve.get(trial_id, []))

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        with self._database.read() as session:
            trials = self._history(study_id).trials(session, _study(session, study_id))
        chosen = [trial for trial in trials if states is None or trial.state in states]
        return copy.deepcopy(chosen) if deepcopy else chosen

    def _history(self, study_id: int) -> history.History:
        with self._lock:
            if study_id not in self._histories:
                self._histories[study_id] = history.History(study_id)
            return self._histories[study_id]


# --- rows -----------------------------------------------------------------------------------


def _study(session: Session, study_id: int, *, lock: bool = False) -> Study:
    study = session.get(Study, study_id, with_for_update=True if lock else None)
    if study is None:
        raise KeyError(f"There is no study with id {study_id}.")
    return study


def _frozen(study: Study) -> FrozenStudy:
    return FrozenStudy(
        study_name=study.name,
        direction=None,
        directions=history.directions(study),
        user_attrs=study.user_attrs,
        system_attrs=study.system_attrs,
        study_id=study.id,
    )


def _writable(session: WriteSession, trial_id: int, *, claim: bool = False) -> Trial:
    """The locked row, its study locked before; raises unless it is an Optuna client's to change.

    To `claim` a trial that runs already is no error: Optuna asks, and takes no for an answer.
    """
    study_id = session.scalar(
        select(Trial.study_id).where(Trial.id == trial_id, Trial.kind == "search")
    )
    if study_id is None:
        raise KeyError(f"There is no trial with id {trial_id}.")
    study = _study(session, study_id, lock=True)
    trial = session.get(Trial, trial_id, with_for_update=True)
    if trial is None:
        raise KeyError(f"There is no trial with id {trial_id}.")
    if history.STATES[trial.state].is_finished():
        raise UpdateFinishedTrialError(f"Trial {trial.number} has ended, and cannot be changed.")
    if study.kind != "external":
        raise _belongs_to_workers(study)
    if trial.lease_id is not None and not claim:
        raise errors.WrongState(f"Trial {trial.number} is leased: its worker alone writes to it.")
    return trial


def _take_number(session: WriteSession, study_id: int) -> int:
    """The number of a new trial; the update locks the study's row, so numbers have no gaps."""
    taken = session.scalar(
        update(Study)
        .where(Study.id == study_id, Study.kind == "external", Study.state == "running")
        .where(Study.budget_trials.is_(None) | (Study.n_trials < Study.budget_trials))
        .values(n_trials=Study.n_trials + 1)
        .returning(Study.n_trials)
        .execution_options(synchronize_session=False)
    )
    if taken is not None:
        return taken - 1
    study = _study(session, study_id)
    if study.kind != "external":
        raise _belongs_to_workers(study)
    if study.state != "running":
        raise errors.WrongState(f"The study is {study.state}: it takes no more trials.")
    raise errors.BudgetSpent()


def _belongs_to_workers(study: Study) -> errors.WrongState:
    return errors.WrongState(
        f"The trials of {study.name!r} are run by workers: add some with "
        f"`POST /v1/studies/{study.id}/trials`."
    )


def _imitate(trial: Trial, template: FrozenTrial) -> None:
    """Give a new row the contents of a trial that was made elsewhere."""
    trial.state = STATE_NAMES[template.state]
    trial.params = {
        name: distribution.to_external_repr(distribution.to_internal_repr(template.params[name]))
        for name, distribution in template.distributions.items()
    }
    trial.distributions = {n: distribution_to_json(d) for n, d in template.distributions.items()}
    trial.values = None if template.values is None else [float(v) for v in template.values]
    trial.user_attrs, trial.system_attrs = template.user_attrs, template.system_attrs
    trial.started_at = history.utc(template.datetime_start)
    trial.ended_at = history.utc(template.datetime_complete)


def _point(trial_id: int, step: int, value: float, now: datetime) -> Report:
    values = [None if math.isnan(value) else float(value)]
    return Report(
        trial_id=trial_id,
        attempt=0,
        step=step,
        values=values,
        by_fold=[],
        metrics={},
        action="continue",
        created_at=now,
    )
