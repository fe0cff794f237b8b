"""What a study may spend beside trials, what it has spent, and what it is content with."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, extract, func, select
from sqlalchemy.orm import Session

from hpo_service import errors, protocol
from hpo_service.tables import Attempt, Report, Study, Trial

# Ended by one of these, a study stops the trials that run.
CUTS: tuple[protocol.EndedBy, ...] = ("target", "time", "device_seconds", "epochs", "no_gain")


def of(study: Study) -> protocol.Budget | None:
    """The budget as the user wrote it; None for a study made through the Optuna bridge."""
    return None if study.spec is None else protocol.Budget.model_validate(study.spec["budget"])


def check(budget: protocol.Budget, n_metrics: int) -> None:
    """Raise `InvalidRequest` where the study cannot be content with what the budget says."""
    given = {"target": budget.target is not None, "no_gain": budget.no_gain}
    for name, is_given in given.items():
        if n_metrics > 1 and is_given:
            raise errors.invalid(f"budget.{name}", "is for a study of one metric: leave it out")


def spent(session: Session, now: datetime, study: Study) -> protocol.Spent:
    """What numbered trials took so far, lost attempts at them too."""
    return protocol.Spent(
        seconds=_seconds(session, now, study),
        device_seconds=_device_seconds(session, now, study),
        epochs=_epochs(session, study),
    )


def _ours(study: Study) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return Trial.study_id == study.id, Trial.kind == "search"


def _until(session: Session, now: datetime, study: Study) -> datetime:
    """What comes after the search is not charged to it."""
    if study.state in ("running", "paused"):
        return now
    return session.scalar(select(func.max(Trial.ended_at)).where(*_ours(study))) or now


def _seconds(session: Session, now: datetime, study: Study) -> float:
    start = session.scalar(select(func.min(Trial.started_at)).where(*_ours(study)))
    return (_until(session, now, study) - start).total_seconds() if start else 0.0


def _device_seconds(session: Session, now: datetime, study: Study) -> float:
    end = func.coalesce(Attempt.ended_at, _until(session, now, study))
    times = (
        select(func.sum(extract("epoch", end) - extract("epoch", Attempt.started_at)))
        .join(Trial, Trial.id == Attempt.trial_id)
        .where(*_ours(study))
    )
    return float(session.scalar(times) or 0)


def _epochs(session: Session, study: Study) -> int:
    last = (
        select((func.max(Report.step) - Attempt.resume_step).label("steps"))
        .select_from(Attempt)
        .join(Trial, Trial.id == Attempt.trial_id)
        .join(
            Report,
            (Report.trial_id == Attempt.trial_id) & (Report.attempt == Attempt.attempt),
        )
        .where(*_ours(study))
        .group_by(Attempt.lease_id, Attempt.resume_step)
        .subquery()
    )
    return int(session.scalar(select(func.sum(last.c.steps))) or 0)


def overdrawn(session: Session, now: datetime, study: Study) -> protocol.EndedBy | None:
    """What has run out, if anything has; trials are counted where they are numbered.

    Only what is limited is counted: that takes longer, the longer the study is.
    """
    budget = of(study)
    if budget is None:
        return None
    if budget.seconds is not None and _seconds(session, now, study) >= budget.seconds:
        return "time"
    device = budget.device_seconds
    if device is not None and _device_seconds(session, now, study) >= device:
        return "device_seconds"
    if budget.epochs is not None and _epochs(session, study) >= budget.epochs:
        return "epochs"
    return None


def is_content(study: Study, trial: Trial) -> bool:
    """Whether it is a trial of the search that has completed and reached the target."""
    budget = of(study)
    if budget is None or budget.target is None:
        return False
    if trial.kind != "search" or trial.state != "complete" or not trial.values:
        return False
    value = trial.values[0]
    reached: bool = (
        value >= budget.target if study.directions[0] == "maximize" else value <= budget.target
    )
    return reached
