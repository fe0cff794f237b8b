"""For workers: lease, report, tell, release."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from hpo_service import dispatch, errors, files, leases, protocol, reports, studies
from hpo_service.routes.dependencies import CallerDep, LeaseKey, ServiceDep

router = APIRouter(tags=["leases"])

LEASE_ID = "1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b"
LEASE = {
    "a trainer": {"value": {"worker": "laptop-7f3a", "lease_ids": [LEASE_ID]}},
    "an external program": {
        "value": {
            "worker": "my-script",
            "lease_ids": [LEASE_ID],
            "study": "my-own-function",
            "objectives": ["external"],
        }
    },
    "a worker with a function of its own": {
        "value": {
            "worker": "laptop-7f3a",
            "lease_ids": [LEASE_ID],
            "objectives": ["custom:my_study:objective"],
        }
    },
}
REPORT = {
    "an epoch": {
        "value": {
            "reports": [
                {
                    "lease_id": LEASE_ID,
                    "step": 1,
                    "values": [0.91],
                    "folds": [[0.92, 0.9, 0.91, 0.91, 0.91]],
                    "metrics": {"log_loss": 0.31},
                }
            ]
        }
    }
}
TELL = {
    "complete": {"value": {"state": "complete", "values": [0.973], "epoch": 24}},
    "failed": {
        "value": {"state": "fail", "error": {"reason": "oom", "message": "16 GiB were not enough"}}
    },
}


@router.post("/leases")
def lease_trials(
    request: Annotated[protocol.LeaseRequest, Body(openapi_examples=LEASE)],
    service: ServiceDep,
    token: CallerDep,
) -> protocol.Leases:
    """Lease trials under ids of the caller's own making; repeating a call changes nothing.

    An empty answer says when to ask again; keep the ids and send the same ones.
    """
    study_id = None
    if request.study is not None:
        with service.database.read() as session:
            row = studies.get(session, str(request.study))
            leases.require_able(row, request.objectives)
            study_id = row.id
    elif "external" in request.objectives:
        raise errors.invalid("study", "name the study: external trials are not handed to just any")
    return dispatch.lease(service, request, study_id, token)


@router.post("/reports")
def report_epochs(
    given: Annotated[protocol.Reports, Body(openapi_examples=REPORT)],
    service: ServiceDep,
    token: CallerDep,
) -> protocol.Decisions:
    """Report finished epochs of any leases; the answer says what to do with each trial."""
    decisions = service.database.transact(
        lambda s, now: reports.store(
            s, now, service.searches, given.reports, token=token, ttl=service.ttl
        )
    )
    return protocol.Decisions(decisions=decisions)


@router.post("/leases/{lease_id}/tell")
def tell_result(
    lease_id: LeaseKey,
    told: Annotated[protocol.Tell, Body(openapi_examples=TELL)],
    service: ServiceDep,
    token: CallerDep,
) -> protocol.Told:
    """End the trial; the same tell again gets the same answer."""
    answer = service.database.transact(
        lambda s, now: leases.tell(s, now, lease_id, told, token=token)
    )
    files.sweep(service)
    return answer


@router.post("/leases/{lease_id}/release")
def release_lease(lease_id: LeaseKey, service: ServiceDep, token: CallerDep) -> protocol.Told:
    """Give the trial back unfinished; it does not count as lost."""
    return service.database.transact(lambda s, now: leases.release(s, now, lease_id, token=token))
