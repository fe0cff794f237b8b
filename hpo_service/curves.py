"""Learning curves: of all points that a trial's attempts reported, those that count."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session, aliased, load_only

from hpo_service.tables import Attempt, Report

# Databases limit the parameters of a statement.
IDS_AT_ONCE = 500


def load(
    session: Session, trial_ids: Iterable[int], *, values_only: bool = False
) -> dict[int, list[Report]]:
    """The curve of each trial that has one, sorted by step.

    For each step that is the row of the highest attempt, without rows of older attempts above the
    step at which a newer one resumed. With `values_only` the rows come without folds and metrics.
    """
    ids = sorted(set(trial_ids))
    found: dict[int, list[Report]] = {}
    for first in range(0, len(ids), IDS_AT_ONCE):
        found |= _load(session, ids[first : first + IDS_AT_ONCE], values_only)
    return found


def folds_at(curve: Iterable[Report], step: int | None) -> list[list[float | None]]:
    """Each metric's values of the folds at a step; empty where the curve has no such step."""
    return next((point.folds for point in curve if point.step == step), [])


def counting() -> ColumnElement[bool]:
    """Of reports: no newer attempt began anew before that step.

    Where several attempts have a row of one step, that of the highest counts.
    """
    newer = aliased(Attempt)
    began_anew = select(newer.lease_id).where(
        newer.trial_id == Report.trial_id,
        newer.attempt > Report.attempt,
        newer.resume_step < Report.step,
    )
    return ~began_anew.exists()


def _load(session: Session, ids: list[int], values_only: bool) -> dict[int, list[Report]]:
    query = select(Report).where(Report.trial_id.in_(ids)).order_by(Report.attempt, Report.step)
    if values_only:
        query = query.options(load_only(Report.values))
    rows: dict[int, list[Report]] = {}
    for row in session.scalars(query):
        rows.setdefault(row.trial_id, []).append(row)
    resumed: dict[int, dict[int, int]] = {}
    attempts = select(Attempt.trial_id, Attempt.attempt, Attempt.resume_step)
    for trial_id, attempt, step in session.execute(attempts.where(Attempt.trial_id.in_(ids))):
        resumed.setdefault(trial_id, {})[attempt] = step
    return {trial: _curve(points, resumed.get(trial, {})) for trial, points in rows.items()}


def _curve(rows: list[Report], resumed: dict[int, int]) -> list[Report]:
    """`rows` in the order of their attempts; `resumed`: the step each attempt went on from."""
    by_step: dict[int, Report] = {}
    for row in rows:
        newer = [step for attempt, step in resumed.items() if attempt > row.attempt]
        if all(row.step <= step for step in newer):
            by_step[row.step] = row
    return [by_step[step] for step in sorted(by_step)]
