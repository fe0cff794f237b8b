"""Our search rows as Optuna's frozen trials; a study's finished ones are built once and kept."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

from optuna.distributions import json_to_distribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from hpo_service import curves
from hpo_service.tables import Report, Study, Trial

STATES = {
    "waiting": TrialState.WAITING,
    "running": TrialState.RUNNING,
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "fail": TrialState.FAIL,
    "cancelled": TrialState.FAIL,
}

# A list of numbers longer than this is replaced by a range in SQL.
NUMBERS_AT_ONCE = 500

# Many trials share few distributions; Optuna never changes one.
distribution_of = lru_cache(maxsize=10_000)(json_to_distribution)


class History:
    """The trials of one study, by number; safe to share between threads.

    Finished trials never change and are read once; they are forgotten where the study's revision
    tells that one was edited after all. Unfinished ones are read again each time. What is handed
    out is never changed later.
    """

    def __init__(self, study_id: int) -> None:
        self.study_id = study_id
        self._lock = threading.Lock()
        self._revision = -1
        self._trials: dict[int, FrozenTrial] = {}

    def trials(self, session: Session, study: Study) -> list[FrozenTrial]:
        """All trials as `session` sees them, which must not have ended one itself."""
        with self._lock:
            if study.revision != self._revision:
                self._trials, self._revision = {}, study.revision
            self._trials |= self._changed(session)
            return [self._trials[number] for number in sorted(self._trials)]

    def _changed(self, session: Session) -> dict[int, FrozenTrial]:
        rows = session.scalars(select(Trial).where(*self._unknown()).order_by(Trial.number)).all()
        points = curves.load(session, [row.id for row in rows], values_only=True)
        return {row.number or 0: frozen(row, points.get(row.id, [])) for row in rows}

    def _unknown(self) -> list[ColumnElement[bool]]:
        """The rows to read: those beyond the last one known, and the unfinished ones."""
        unfinished = [n for n, trial in self._trials.items() if not trial.state.is_finished()]
        again: ColumnElement[bool] = Trial.number.in_(unfinished)
        if len(unfinished) > NUMBERS_AT_ONCE:
            again = Trial.number >= min(unfinished)
        # Numbers have no gaps and come in order: each insert holds the lock of the study's row.
        beyond = Trial.number > max(self._trials, default=-1)
        return [Trial.study_id == self.study_id, Trial.kind == "search", or_(beyond, again)]


def frozen(row: Trial, curve: Sequence[Report]) -> FrozenTrial:
    """A search row as Optuna knows it; a parameter counts from when its distribution is set."""
    distributions = {name: distribution_of(d) for name, d in row.distributions.items()}
    return FrozenTrial(
        number=row.number or 0,
        state=STATES[row.state],
        value=None,
        # JSON writes some floats as whole numbers, of which NumPy makes integer arrays.
        values=None if row.values is None else [float(value) for value in row.values],
        datetime_start=local(row.started_at),
        datetime_complete=local(row.ended_at),
        params={name: v for name, v in row.params.items() if name in distributions},
        distributions=distributions,
        user_attrs=dict(row.user_attrs),
        system_attrs=dict(row.system_attrs),
        intermediate_values={point.step: value_of(point.values[0]) for point in curve},
        trial_id=row.id,
    )


def value_of(stored: float | None) -> float:
    """A stored value: NULL stands for "not finite"."""
    return math.nan if stored is None else float(stored)


def directions(study: Study) -> list[StudyDirection]:
    """Which way each value of a study is better, in Optuna's words."""
    return [StudyDirection[direction.upper()] for direction in study.directions]


def local(stored: datetime | None) -> datetime | None:
    """Optuna's datetimes are naive and local, ours aware and UTC."""
    return None if stored is None else stored.astimezone().replace(tzinfo=None)


def utc(given: datetime | None) -> datetime | None:
    """The inverse of `local`."""
    return None if given is None else given.astimezone(UTC)
