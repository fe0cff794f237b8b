"""Which file belongs to whom: artifacts of attempts, and who may read a data blob."""

from __future__ import annotations

import logging
from datetime import datetime
from functools import partial

from sqlalchemy import and_, delete, exists, func, or_, select
from sqlalchemy.orm import Session

from hpo_service import confirm, curves, errors, protocol, ranking
from hpo_service.artifacts import Blobs
from hpo_service.database import WriteSession
from hpo_service.service import Service
from hpo_service.tables import Artifact, Attempt, Dataset, Study, Trial

MODEL = "model"
# Of the best trials: the others would hardly ever be chosen, whichever rows decided.
MOST_PREDICTIONS = 200
SWEEP_ROWS = 100  # files of ended trials that are deleted in one go

log = logging.getLogger("hpo_service")


def require_readable(session: Session, sha256: str, lease_id: str | None, token: str) -> None:
    """Search parts are for all workers; held-out parts, predictions and networks of folds for the
    holder of a final lease alone.
    """
    if session.scalar(select(Study.id).where(Study.search_sha256 == sha256).limit(1)):
        return
    held = session.execute(
        select(Study.id, Study.holdout_sha256)
        .join(Trial, Trial.study_id == Study.id)
        .join(Attempt, Attempt.lease_id == Trial.lease_id)
        .where(Trial.lease_id == lease_id, Trial.kind == "final", Trial.state == "running")
        .where(Attempt.token == token)
    ).one_or_none()
    left = select(Artifact.sha256).where(
        Artifact.name.in_((protocol.OUT_OF_FOLD, protocol.FOLD_NETWORKS)),
        Artifact.sha256 == sha256,
    )
    if held is not None:
        of_study = left.join(Trial, Trial.id == Artifact.trial_id).where(Trial.study_id == held[0])
        if sha256 == held[1] or session.scalar(of_study.limit(1)):
            return
    held_out = select(Study.id).where(Study.holdout_sha256 == sha256)
    if session.scalar(held_out.limit(1)) or session.scalar(left.limit(1)):
        raise errors.Forbidden(
            "Held-out rows, predictions and networks of folds are for the holder of the final "
            "lease alone."
        )
    raise errors.NotFound("No study has data under this hash.")


def add(
    session: WriteSession,
    now: datetime,
    blobs: Blobs,
    lease_id: str,
    given: protocol.Artifact,
    token: str,
) -> str | None:
    """Note a stored file as the attempt's; the SHA-256 of the file that it replaces.

    Raises `LeaseLost` where the lease is not held.
    """
    trial = session.scalar(
        select(Trial)
        .join(Attempt, Attempt.lease_id == Trial.lease_id)
        .where(Trial.lease_id == lease_id, Trial.state == "running", Attempt.token == token)
        .with_for_update(of=Trial)
    )
    if trial is None:
        raise errors.LeaseLost()
    _lock_blob(session, given.sha256)
    if not blobs.has(given.sha256):
        raise errors.Unavailable("A twin of the file was just deleted: send it again.")
    row = session.get(Artifact, (trial.id, trial.attempt, given.name))
    replaced = row.sha256 if row is not None else None
    if row is None:
        row = Artifact(trial_id=trial.id, attempt=trial.attempt, name=given.name, created_at=now)
        session.add(row)
    row.sha256, row.size, row.step = given.sha256, given.size, given.step
    return None if replaced == given.sha256 else replaced


def find(session: Session, lease_id: str, name: str, token: str) -> Artifact:
    """The newest file of this name up to the lease's attempt; `LeaseLost`, `NotFound`.

    Of older attempts' checkpoints only the one that the lease goes on from counts.
    """
    attempt = session.get(Attempt, lease_id)
    if attempt is None or attempt.token != token:
        raise errors.LeaseLost()
    found = session.scalars(
        select(Artifact)
        .where(Artifact.trial_id == attempt.trial_id, Artifact.name == name)
        .where(Artifact.attempt <= attempt.attempt)
        .where(
            or_(
                Artifact.attempt == attempt.attempt,
                Artifact.step.is_(None),
                Artifact.step == attempt.resume_step,
            )
        )
        .order_by(Artifact.attempt.desc())
        .limit(1)
    ).first()
    if found is None:
        raise errors.NotFound(f"This trial has no artifact {name!r}.")
    return found


def out_of_fold(session: Session, study: Study) -> list[protocol.OutOfFold]:
    """The predictions of completed rows: the best trials of the search, then all other rows."""
    found = session.execute(
        select(Trial, Artifact.sha256)
        .join(Artifact, Artifact.trial_id == Trial.id)
        .where(Trial.study_id == study.id, Trial.state == "complete")
        .where(Artifact.name == protocol.OUT_OF_FOLD, Artifact.attempt == Trial.attempt)
        .order_by(Trial.id)
    )
    known = {trial.id: (trial, sha256) for trial, sha256 in found}
    best = [trial.id for trial in ranking.first(session, study, MOST_PREDICTIONS)]
    others = [i for i, (trial, _) in known.items() if trial.kind != "search"]
    points = curves.load(session, known)
    return [
        _out_of_fold(*known[i], curves.folds_at(points.get(i, []), known[i][0].epoch))
        for i in (*best, *others)
        if i in known
    ]


def _out_of_fold(row: Trial, sha256: str, folds: list[list[float | None]]) -> protocol.OutOfFold:
    return protocol.OutOfFold(
        kind=row.kind,
        number=row.number if row.number is not None else confirm.number(row),
        model=row.model,
        values=row.values or [],
        folds=folds,
        sha256=sha256,
    )


def fold_networks(session: Session, trial: Trial) -> str | None:
    """The stored networks of a trial's folds, by their hash; None where they were not kept."""
    return session.scalar(
        select(Artifact.sha256).where(
            Artifact.trial_id == trial.id,
            Artifact.attempt == trial.attempt,
            Artifact.name == protocol.FOLD_NETWORKS,
        )
    )


def final(session: Session, study: Study) -> list[Artifact]:
    """What the final row left, by name; empty until it is complete."""
    rows = session.scalars(
        select(Artifact)
        .join(Trial, Trial.id == Artifact.trial_id)
        .where(Trial.study_id == study.id, Trial.kind == "final", Trial.state == "complete")
        .order_by(Artifact.attempt)
    )
    newest = {row.name: row for row in rows}
    return [newest[name] for name in sorted(newest)]


def final_artifact(session: Session, study: Study, name: str) -> Artifact:
    """One of the final row's files; `NotFound` names those that there are."""
    found = {row.name: row for row in final(session, study)}
    if not found:
        raise errors.NotFound(f"There is no {name} yet: it comes with the end of the study.")
    if name not in found:
        raise errors.NotFound(f"This study left no {name!r}: take one of {', '.join(found)}.")
    return found[name]


# --- what nobody needs any more -------------------------------------------------------------


def discard(service: Service, sha256: str) -> None:
    """Delete a file that has been replaced, unless another row names it."""
    service.database.transact(lambda s, _now: _remove_unnamed(s, service.blobs, sha256))


def sweep(service: Service) -> None:
    """Delete the checkpoints of trials that have ended, and the networks of folds of studies that
    have finished; what fails is left to the next sweep.
    """
    query = (
        select(Artifact.trial_id, Artifact.name)
        .join(Trial, Trial.id == Artifact.trial_id)
        .join(Study, Study.id == Trial.study_id)
        .where(
            or_(
                and_(Artifact.name == protocol.CHECKPOINT, Trial.state.in_(protocol.TERMINAL)),
                and_(Artifact.name == protocol.FOLD_NETWORKS, Study.state == "finished"),
            )
        )
    )
    try:
        with service.database.read() as session:
            ended = session.execute(query.distinct().limit(SWEEP_ROWS)).all()
        for trial_id, name in ended:
            service.database.transact(partial(_forget, service.blobs, trial_id, name))
    except (errors.Unavailable, OSError) as error:
        log.warning("files of trials that have ended are deleted later: %s", error)


def _forget(blobs: Blobs, trial_id: int, name: str, session: WriteSession, _now: datetime) -> None:
    gone = session.scalars(
        delete(Artifact)
        .where(Artifact.trial_id == trial_id, Artifact.name == name)
        .returning(Artifact.sha256)
    ).all()
    for sha256 in sorted(set(gone)):
        _remove_unnamed(session, blobs, sha256)


def _remove_unnamed(session: WriteSession, blobs: Blobs, sha256: str) -> None:
    _lock_blob(session, sha256)
    named = session.scalar(
        select(
            or_(
                exists().where(Artifact.sha256 == sha256),
                exists().where(Dataset.sha256 == sha256),
                exists().where(Study.search_sha256 == sha256),
                exists().where(Study.holdout_sha256 == sha256),
            )
        )
    )
    if not named:
        blobs.remove(sha256)


def _lock_blob(session: WriteSession, sha256: str) -> None:
    """Until the transaction's end nobody else names or deletes this file.

    SQLite has one writer at a time anyway.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(int(sha256[:15], 16))))
