"""Points of learning curves: stored once, judged once, answered with the stored decision."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from hpo_service import budgets, errors, protocol
from hpo_service.database import WriteSession
from hpo_service.suggest import Searches
from hpo_service.tables import Attempt, Report, Study, Trial


def store(
    session: WriteSession,
    now: datetime,
    searches: Searches,
    reports: list[protocol.Report],
    *,
    token: str,
    ttl: timedelta,
) -> dict[str, protocol.Decision]:
    """Store points and judge each once, in the order (step, trial number).

    Repeating a call changes nothing and gets the same decisions; another value for a stored step
    raises `ReportConflict`.
    """
    decisions: dict[str, protocol.Decision] = {}
    fresh: dict[int, list[Report]] = {}
    held = _held_for_report(session, {r.lease_id for r in reports}, decisions, token)
    for lease_id, trial in held.items():
        trial.deadline = now + ttl
        given = [r for r in reports if r.lease_id == lease_id]
        _note_new_start(session, lease_id, given)
        points, decisions[lease_id] = _fresh_points(session, now, trial, given)
        fresh.setdefault(trial.study_id, []).extend(points)
    trials = {trial.id: trial for trial in held.values()}
    for study_id, points in fresh.items():
        for pruned in _judge(session, searches, study_id, points, trials):
            decisions[trials[pruned.trial_id].lease_id or ""] = _decision(pruned)
    return decisions


def _held_for_report(
    session: WriteSession, lease_ids: set[str], decisions: dict[str, protocol.Decision], token: str
) -> dict[str, Trial]:
    """The locked rows still held; for all other leases the decision says what became of them."""
    attempts = {
        a.lease_id: a
        for a in session.scalars(select(Attempt).where(Attempt.lease_id.in_(lease_ids)))
    }
    trials = session.scalars(
        select(Trial).where(Trial.lease_id.in_(lease_ids)).order_by(Trial.id).with_for_update()
    ).all()
    held = {t.lease_id: t for t in trials if t.lease_id and attempts[t.lease_id].token == token}
    for lease_id in lease_ids - set(held):
        outcome = attempts[lease_id].outcome if lease_id in attempts else None
        action = protocol.Decision(action="stop" if outcome == "cancelled" else "lost")
        decisions[lease_id] = action
    return held


def _note_new_start(session: WriteSession, lease_id: str, given: list[protocol.Report]) -> None:
    """An attempt that reports a step from before its checkpoint began anew: all points are its own.

    That happens where the checkpoint could not be read.
    """
    attempt = session.get_one(Attempt, lease_id)
    if min(report.step for report in given) <= attempt.resume_step:
        attempt.resume_step = 0


def _stored(
    session: Session, trial: Trial, steps: list[int]
) -> tuple[dict[int, Report], protocol.Decision | None]:
    """What this attempt has stored of these steps, and the decision that ended it, if any."""
    rows = session.scalars(
        select(Report)
        .where(Report.trial_id == trial.id, Report.attempt == trial.attempt)
        .where(or_(Report.step.in_(steps), Report.action != "continue"))
        .order_by(Report.step)
    ).all()
    ended = next((r for r in rows if r.action != "continue"), None)
    return {r.step: r for r in rows}, _decision(ended) if ended else None


def _decision(point: Report) -> protocol.Decision:
    return protocol.Decision.model_validate({"action": point.action, "step": point.step})


def _fresh_points(
    session: WriteSession, now: datetime, trial: Trial, given: list[protocol.Report]
) -> tuple[list[Report], protocol.Decision]:
    """New rows for the steps not stored yet, none behind a pruning; and where the trial stands."""
    stored, ended = _stored(session, trial, [g.step for g in given])
    fresh: dict[int, Report] = {}
    for report in given:
        known = stored.get(report.step) or fresh.get(report.step)
        if known is None and (ended is None or report.step <= (ended.step or 0)):
            fresh[report.step] = _row(now, trial, report)
        elif known is not None and (known.values, known.by_fold) != _values(report):
            raise errors.ReportConflict(
                f"Step {report.step} of lease {report.lease_id} is stored with another value."
            )
    last = max(g.step for g in given)
    return list(fresh.values()), ended or protocol.Decision(action="continue", step=last)


def _values(given: protocol.Report) -> tuple[list[float | None], list[list[float | None]]]:
    """As they are stored."""
    trained = [given.train_folds] if given.train_folds else []
    return given.values, [*given.folds, *trained]


def _row(now: datetime, trial: Trial, given: protocol.Report) -> Report:
    values, by_fold = _values(given)
    return Report(
        trial_id=trial.id,
        attempt=trial.attempt,
        step=given.step,
        values=values,
        by_fold=by_fold,
        metrics=given.metrics,
        action="continue",
        created_at=now,
    )


def _judge(
    session: WriteSession,
    searches: Searches,
    study_id: int,
    points: list[Report],
    trials: dict[int, Trial],
) -> list[Report]:
    """Store the points with their decisions; returns those that end their trial."""
    study = session.get_one(Study, study_id)
    for point in points:
        if len(point.values) != len(study.directions):
            raise errors.invalid(
                "reports.values", f"the study has {len(study.directions)} metrics: give as many"
            )
    points.sort(key=lambda p: (p.step, trials[p.trial_id].id))
    session.add_all(p for p in points if trials[p.trial_id].kind != "search")
    judged = [p for p in points if trials[p.trial_id].kind == "search"]
    ended: dict[int, Report] = {}
    for point, decision in zip(judged, searches.judge(session, study, judged), strict=True):
        if point.trial_id in ended:
            continue
        # Where the budget has run out, what runs is as if pruned here: its value is that so far.
        point.action = "prune" if study.ended_by in budgets.CUTS else decision.action
        if point.action != "continue":
            ended[point.trial_id] = point
        session.add(point)
    session.flush()
    return list(ended.values())
