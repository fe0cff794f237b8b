"""Is the server up?"""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from sqlalchemy import text

from hpo_service.protocol import Model
from hpo_service.routes.dependencies import ServiceDep

router = APIRouter(tags=["health"])


class Health(Model):
    status: Literal["ok"] = "ok"


@router.get("/healthz")
def healthz(service: ServiceDep) -> Health:
    """Answers `ok` when the server and its database do."""
    with service.database.read() as session:
        session.execute(text("SELECT 1"))
    return Health()
