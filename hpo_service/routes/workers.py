"""Workers: register and heartbeat in one call."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Path

from hpo_service import errors, leases, protocol, tables
from hpo_service.routes.dependencies import CallerDep, ServiceDep

router = APIRouter(tags=["workers"], prefix="/workers")

WorkerKey = Annotated[protocol.WorkerName, Path(description="A name of the worker's own making.")]
EXAMPLES = {
    "beat": {"value": {"device": "cpu", "lease_ids": ["1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b"]}}
}


@router.put("/{name}")
def heartbeat(
    name: WorkerKey,
    given: Annotated[protocol.Beat, Body(openapi_examples=EXAMPLES)],
    service: ServiceDep,
    token: CallerDep,
) -> protocol.Held:
    """Register or beat: renews all the worker's leases and says what became of each."""
    return service.database.transact(
        lambda s, now: leases.beat(s, now, name, given, token=token, ttl=service.ttl)
    )


@router.get("/{name}")
def show_worker(name: WorkerKey, service: ServiceDep) -> protocol.Worker:
    """When the worker was last heard of."""
    with service.database.read() as session:
        row = session.get(tables.Worker, name)
    if row is None:
        raise errors.NotFound(f"No worker {name!r} has called yet.")
    return protocol.Worker(
        name=row.name, device=row.device, first_seen=row.first_seen, last_seen=row.last_seen
    )
