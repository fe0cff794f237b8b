"""Trials: list, look, learning curves, add by hand, cancel."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Query
from sqlalchemy import select

from hpo_service import curves, errors, leases, protocol, studies, trials, views
from hpo_service.routes.dependencies import After, Limit, Number, ServiceDep, StudyKey
from hpo_service.tables import Report

router = APIRouter(tags=["trials"], prefix="/studies/{study}/trials")

MANUAL = {
    "by hand": {"value": {"params": {"hidden_layers": 2, "learning_rate": 0.05}}},
    "sample all": {"value": {"params": {}}},
}


@router.get("")
def list_trials(
    study: StudyKey,
    service: ServiceDep,
    kind: Annotated[protocol.TrialKind, Query(description="Search rows unless said.")] = "search",
    state: Annotated[list[protocol.TrialState] | None, Query(description="Only these.")] = None,
    sort: Annotated[trials.Sort, Query(description="Unset values come last.")] = "number",
    order: Annotated[Literal["asc", "desc"], Query()] = "asc",
    limit: Limit = 100,
    after: After = 0,
) -> protocol.Trials:
    """Trials by page, filtered and sorted; `sort=value` is by the first metric."""
    with service.database.read() as session:
        row = studies.get(session, study)
        page, more = trials.page(session, row.id, kind, state, sort, order == "desc", limit, after)
        shown = views.many_trials(session, page)
    return protocol.Trials(trials=shown, next=after + limit if more else None)


@router.post("", status_code=201)
def add_trial(
    study: StudyKey,
    given: Annotated[protocol.ManualTrial, Body(openapi_examples=MANUAL)],
    service: ServiceDep,
) -> protocol.Trial:
    """Queue a trial by hand: evaluated exactly once, before sampled ones, within the budget.

    Parameters left out are sampled when the trial is leased.
    """
    with service.database.read() as session:
        study_id = studies.get(session, study).id
    row = service.database.transact(
        lambda s, now: studies.add_trial(s, now, studies.get(s, str(study_id)), given.params)
    )
    return views.trial(row)


@router.get("/{number}")
def show_trial(study: StudyKey, number: Number, service: ServiceDep) -> protocol.Trial:
    """One search trial."""
    with service.database.read() as session:
        row = trials.get(session, studies.get(session, study).id, number)
        return views.many_trials(session, [row])[0]


@router.get("/{number}/reports")
def learning_curve(
    study: StudyKey,
    number: Number,
    service: ServiceDep,
    attempt: Annotated[
        int | None, Query(ge=0, le=protocol.MAX_INT, description="Unset: the curve that counts.")
    ] = None,
) -> protocol.Curve:
    """The learning curve: per epoch the mean, each fold's value, and the decision made."""
    with service.database.read() as session:
        row = trials.get(session, studies.get(session, study).id, number)
        if attempt is None:
            points = curves.load(session, [row.id]).get(row.id, [])
        else:
            query = select(Report).where(Report.trial_id == row.id, Report.attempt == attempt)
            points = list(session.scalars(query.order_by(Report.step)))
        return protocol.Curve(points=[views.point(p) for p in points])


@router.post("/{number}/cancel")
def cancel_trial(study: StudyKey, number: Number, service: ServiceDep) -> protocol.Trial:
    """End an unfinished trial at once; its worker learns it from its next answer."""
    with service.database.read() as session:
        row = studies.get(session, study)
        if row.kind == "external" and row.spec is None:
            raise errors.WrongState("This study belongs to an Optuna client: cancel it there.")
        study_id = row.id
    ended = service.database.transact(lambda s, now: leases.cancel(s, now, study_id, number))
    return views.trial(ended)
