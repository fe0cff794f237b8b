"""Which file belongs to whom: artifacts of attempts, and who may read a data blob."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hpo_service import errors, protocol
from hpo_service.database import WriteSession
from hpo_service.tables import Artifact, Attempt, Study, Trial

MODEL = "model"


def require_readable(session: Session, sha256: str, lease_id: str | None, token: str) -> None:
    """Search parts are for all workers, held-out parts for the holder of a final lease alone."""
    if session.scalar(select(Study.id).where(Study.search_sha256 == sha256).limit(1)):
        return
    if not session.scalar(select(Study.id).where(Study.holdout_sha256 == sha256).limit(1)):
        raise errors.NotFound("No study has data under this hash.")
    held = session.scalar(
        select(Study.holdout_sha256)
        .join(Trial, Trial.study_id == Study.id)
        .join(Attempt, Attempt.lease_id == Trial.lease_id)
        .where(Trial.lease_id == lease_id, Trial.kind == "final", Trial.state == "running")
        .where(Attempt.token == token)
    )
    if held != sha256:
        raise errors.Forbidden("Held-out rows are for the holder of the final lease alone.")


def add(
    session: WriteSession, now: datetime, lease_id: str, given: protocol.Artifact, token: str
) -> protocol.Artifact:
    """Note a stored file as the attempt's; raises `LeaseLost` where the lease is not held."""
    trial = session.scalar(
        select(Trial)
        .join(Attempt, Attempt.lease_id == Trial.lease_id)
        .where(Trial.lease_id == lease_id, Trial.state == "running", Attempt.token == token)
        .with_for_update(of=Trial)
    )
    if trial is None:
        raise errors.LeaseLost()
    row = session.get(Artifact, (trial.id, trial.attempt, given.name))
    if row is None:
        row = Artifact(trial_id=trial.id, attempt=trial.attempt, name=given.name, created_at=now)
        session.add(row)
    row.sha256, row.size = given.sha256, given.size
    return given


def find(session: Session, lease_id: str, name: str, token: str) -> Artifact:
    """The newest file of this name up to the lease's attempt; `LeaseLost`, `NotFound`."""
    attempt = session.get(Attempt, lease_id)
    if attempt is None or attempt.token != token:
        raise errors.LeaseLost()
    found = session.scalars(
        select(Artifact)
        .where(Artifact.trial_id == attempt.trial_id, Artifact.name == name)
        .where(Artifact.attempt <= attempt.attempt)
        .order_by(Artifact.attempt.desc())
        .limit(1)
    ).first()
    if found is None:
        raise errors.NotFound(f"This trial has no artifact {name!r}.")
    return found


def final_model(session: Session, study: Study) -> Artifact:
    """The winner's weights, there once the final row is complete."""
    found = session.scalars(
        select(Artifact)
        .join(Trial, Trial.id == Artifact.trial_id)
        .where(Trial.study_id == study.id, Trial.kind == "final", Trial.state == "complete")
        .where(Artifact.name == MODEL)
        .order_by(Artifact.attempt.desc())
        .limit(1)
    ).first()
    if found is None:
        raise errors.NotFound("There is no model yet: it comes with the end of the study.")
    return found
