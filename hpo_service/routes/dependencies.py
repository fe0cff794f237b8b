"""What routes ask for: the service, the caller's token, the uploaded body."""

from __future__ import annotations

import hashlib
import hmac
import tempfile
from collections.abc import AsyncIterator
from typing import IO, Annotated

from fastapi import Depends, Path, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from hpo_service import errors, protocol
from hpo_service.service import Service

SPOOL_BYTES = 1 << 20


def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(service_of)]

_bearer = HTTPBearer(auto_error=False, description="The server's `HPO_TOKEN`, where it has one.")


def caller(
    service: ServiceDep, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> str:
    """The SHA-256 of the caller's token, empty on a server without one; `Unauthorized`."""
    expected = service.settings.token_value
    if not expected:
        return ""
    token = given.credentials if given else ""
    if not hmac.compare_digest(token.encode(), expected.encode()):
        raise errors.Unauthorized()
    return hashlib.sha256(token.encode()).hexdigest()


CallerDep = Annotated[str, Depends(caller)]
AUTHORIZED = Depends(caller)


async def uploaded(request: Request, service: ServiceDep) -> AsyncIterator[IO[bytes]]:
    """The raw body in a temporary file; `TooLarge` as soon as it grows beyond the limit."""
    limit, size = service.settings.max_upload_bytes, 0
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as file:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise errors.TooLarge(
                    f"The file has more than {limit} bytes (HPO_MAX_UPLOAD_BYTES)."
                )
            file.write(chunk)
        file.seek(0)
        yield file


UploadDep = Annotated[IO[bytes], Depends(uploaded)]

StudyKey = Annotated[
    str, Path(max_length=100, description="Name or id of the study.", examples=["digits-mlp"])
]
Number = Annotated[int, Path(ge=0, le=protocol.MAX_INT, description="Number in its study.")]
LeaseKey = Annotated[protocol.LeaseId, Path(description="The lease's UUID.")]
Limit = Annotated[int, Query(ge=1, le=500, description="Rows of one page.")]
After = Annotated[
    int, Query(ge=0, le=protocol.MAX_INT, description="Rows to pass over: `next` of a page.")
]
