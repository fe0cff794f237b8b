"""What a study may spend beside trials, what it has spent, and what it is content with."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import extract, func, select
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
    ours = (Trial.study_id == study.id, Trial.kind == "search")
    ends = select(func.min(Trial.started_at), func.max(Trial.ended_at)).where(*ours)
    start, end = session.execute(ends).one()
    # What comes after the search is not charged to it.
    until = now if study.state in ("running", "paused") else end or now
    times = select(
        func.sum(
            extract("epoch", func.coalesce(Attempt.ended_at, until))
            - extract("epoch", Attempt.started_at)
        )
    ).join(Trial, Trial.id == Attempt.trial_id)
    last = (
        select((func.max(Report.step) - Attempt.resume_step).label("steps"))
        .select_from(Attempt)
        .join(Trial, Trial.id == Attempt.trial_id)
        .join(
            Report,
            (Report.trial_id == Attempt.trial_id) & (Report.attempt == Attempt.attempt),
        )
        .where(*ours)
        .group_by(Attempt.lease_id, Attempt.resume_step)
        .subquery()
    )
    return protocol.Spent(
        seconds=(until - start).total_seconds() if start else 0.0,
        device_seconds=float(session.scalar(times.where(*ours)) or 0),
        epochs=int(session.scalar(select(func.sum(last.c.steps))) or 0),
    )


def overdrawn(session: Session, now: datetime, study: Study) -> protocol.EndedBy | None:
    """What has run out, if anything has; trials are counted where they are numbered."""
    budget = of(study)
    if budget is None or not (budget.seconds or budget.device_seconds or budget.epochs):
        return None
    so_far = spent(session, now, study)
    if budget.seconds is not None and so_far.seconds >= budget.seconds:
        return "time"
    if budget.device_seconds is not None and so_far.device_seconds >= budget.device_seconds:
        return "device_seconds"
    if budget.epochs is not None and so_far.epochs >= budget.epochs:
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
