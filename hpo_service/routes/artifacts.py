"""Files: data blobs for workers, artifacts of attempts, the final model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import FileResponse

from hpo_service import files, protocol, studies
from hpo_service.routes.dependencies import CallerDep, LeaseKey, ServiceDep, StudyKey, UploadDep

CHUNK = 1 << 20
BINARY = {
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
}
RAW_BODY = {"requestBody": {"required": True, **BINARY}}
# Never shown by a browser, whatever an uploader put into the file.
DOWNLOAD_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}

router = APIRouter(tags=["leases"])
ArtifactKey = Annotated[protocol.ArtifactName, Path(description="A label: letters, digits, . _ -")]


@router.get("/blobs/{sha256}", response_class=FileResponse)
def read_data(
    sha256: Annotated[protocol.Sha256, Path(description="As a lease names it.")],
    service: ServiceDep,
    token: CallerDep,
    lease_id: Annotated[
        protocol.LeaseId | None, Query(description="Needed for held-out rows: the final lease.")
    ] = None,
) -> FileResponse:
    """The data of a study. The held-out part only for the holder of its final lease."""
    with service.database.read() as session:
        files.require_readable(session, sha256, lease_id, token)
    return _download(service.blobs.path(sha256), sha256)


@router.put("/leases/{lease_id}/artifacts/{name}", status_code=201, openapi_extra=RAW_BODY)
def store_artifact(
    lease_id: LeaseKey,
    name: ArtifactKey,
    body: UploadDep,
    service: ServiceDep,
    token: CallerDep,
    step: Annotated[
        protocol.Step | None, Query(description="The step whose state a `checkpoint` holds.")
    ] = None,
) -> protocol.Artifact:
    """Store a file of the attempt; the same bytes again change nothing.

    A trial whose worker is lost goes on from its newest `checkpoint` with a `step`, provided that
    all steps up to there were reported. Checkpoints are deleted when their trial has ended.
    """
    sha256, size = service.blobs.put(_chunks(body), service.settings.max_upload_bytes)
    stored = protocol.Artifact(name=name, sha256=sha256, size=size, step=step)
    replaced = service.database.transact(
        lambda s, now: files.add(s, now, service.blobs, lease_id, stored, token)
    )
    if replaced is not None:
        files.discard(service, replaced)
    return stored


@router.get("/leases/{lease_id}/artifacts/{name}", response_class=FileResponse)
def read_artifact(
    lease_id: LeaseKey, name: ArtifactKey, service: ServiceDep, token: CallerDep
) -> FileResponse:
    """A file of the lease's trial, from this attempt or the newest one before it."""
    with service.database.read() as session:
        found = files.find(session, lease_id, name, token)
    return _download(service.blobs.path(found.sha256), name)


@router.get("/studies/{study}/model", response_class=FileResponse, tags=["results"])
def final_model(study: StudyKey, service: ServiceDep) -> FileResponse:
    """The winner refitted on the whole search part, as a safetensors file."""
    with service.database.read() as session:
        row = studies.get(session, study)
        found = files.final_artifact(session, row, files.MODEL)
    return _download(service.blobs.path(found.sha256), f"{row.id}-model.safetensors")


@router.get("/studies/{study}/artifacts", tags=["results"])
def final_artifacts(study: StudyKey, service: ServiceDep) -> protocol.Artifacts:
    """What the study left: the model, held-out predictions, generated samples, a written text.

    Empty until its winner has been refitted.
    """
    with service.database.read() as session:
        found = files.final(session, studies.get(session, study))
        left = [protocol.Artifact(name=a.name, sha256=a.sha256, size=a.size) for a in found]
    return protocol.Artifacts(artifacts=left)


@router.get("/studies/{study}/artifacts/{name}", response_class=FileResponse, tags=["results"])
def final_artifact(study: StudyKey, name: ArtifactKey, service: ServiceDep) -> FileResponse:
    """One of the files that the study left."""
    with service.database.read() as session:
        row = studies.get(session, study)
        found = files.final_artifact(session, row, name)
    return _download(service.blobs.path(found.sha256), f"{row.id}-{name}")


def _chunks(body: IO[bytes]) -> Iterator[bytes]:
    while chunk := body.read(CHUNK):
        yield chunk


def _download(path: object, name: str) -> FileResponse:
    return FileResponse(
        str(path), media_type="application/octet-stream", filename=name, headers=DOWNLOAD_HEADERS
    )
