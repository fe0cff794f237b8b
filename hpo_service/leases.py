"""Every state change of a leased row: claim, tell, release, cancel, heartbeat.

A lease is looked up in `attempts` first and named by every later write, which changes only the
row that still holds it (fencing). Expiry is a fact of the clock: a running row whose deadline has
passed may be claimed like a waiting one; until then its holder's calls renew it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    and_,
    bindparam,
    func,
    literal,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from hpo_service import budgets, curves, errors, protocol, studies
from hpo_service.database import WriteSession
from hpo_service.tables import Artifact, Attempt, Report, Study, Trial, Worker

MAX_LOST = 3
POISON = f"Lost {MAX_LOST} attempts: each worker that ran it died or went silent."


@dataclass(frozen=True)
class Grant:
    """To whom leases go and for how long: worker name, digest of its API token, TTL."""

    worker: str
    token: str
    ttl: timedelta


# --- claim ----------------------------------------------------------------------------------


def live(session: Session, lease_ids: Iterable[str], token: str) -> dict[str, Trial]:
    """The trials that these ids hold by now; `LeaseLost` where one was used and has ended."""
    held: dict[str, Trial] = {}
    for attempt in session.scalars(_NAMED, {"lease_ids": list(lease_ids)}):
        trial = session.get(Trial, attempt.trial_id)
        if attempt.token != token or trial is None or trial.lease_id != attempt.lease_id:
            raise errors.LeaseLost(f"Lease {attempt.lease_id} was used and has ended.")
        held[attempt.lease_id] = trial
    return held


def candidates(session: Session, study_id: int | None, objectives: list[str]) -> list[int]:
    """Studies that may have something to lease: fewest running trials first, then the oldest."""
    given: dict[str, object] = {"objectives": objectives}
    if study_id is not None:
        return list(session.scalars(_OPEN_ONE, given | {"study": study_id}))
    query = _OPEN.order_by(_RUNNING, Study.id)
    if "external" in objectives:
        query = query.where(Study.kind != "external")
    return list(session.scalars(query, given))


def _asks_for() -> ColumnElement[str]:
    """`protocol.ability` of a study's objective, in SQL."""
    return func.coalesce(literal(protocol.FUNCTION_PREFIX).concat(Study.function), Study.kind)


def require_able(study: Study, objectives: list[str]) -> None:
    """Raise `InvalidRequest` where the caller asks for a study that it cannot run."""
    needed, advice = study.kind, "it is for programs that call this API themselves"
    if study.function is not None:
        needed = protocol.FUNCTION_PREFIX + study.function
        advice = f"start `{protocol.worker_command(study.function)}`"
    elif study.kind == "train":
        advice = "start `hpo worker` without --objective"
    if needed in objectives:
        return
    raise errors.invalid("objectives", f"study {study.name!r} needs {needed}: {advice}")


def any_free(session: Session, now: datetime, study_id: int) -> bool:
    """Whether there is a row that nobody holds: asked first, to spare transactions."""
    return session.scalar(_FREE, {"study": study_id, "now": now}) is not None


def claim(
    session: WriteSession,
    now: datetime,
    study_id: int,
    lease_ids: list[str],
    grant: Grant,
    *,
    expired: bool,
) -> None:
    """Lease rows whose parameters are all set: waiting ones (baselines too), then expired ones."""
    for lease_id in lease_ids:
        trial = session.scalar(
            select(Trial)
            .join(Study, Study.id == Trial.study_id)
            .where(Study.state.in_(("running", "finishing")))
            .where(_unfinished(study_id), _claimable(now, expired))
            .order_by(Trial.state.desc(), Trial.kind.desc(), Trial.id)
            .limit(1)
            .with_for_update(skip_locked=True, of=Trial)
            .execution_options(populate_existing=True)
        )
        if trial is None:
            return
        if trial.state == "running":
            _close_lost(session, now, trial)
        start(session, now, trial, lease_id, grant)


def start(session: WriteSession, now: datetime, trial: Trial, lease_id: str, grant: Grant) -> None:
    """Begin the next attempt of a row that nobody holds, where its last checkpoint ends."""
    resume_step = _resume_step(session, trial) if trial.attempt else 0
    trial.state, trial.attempt = "running", trial.attempt + 1
    trial.lease_id, trial.deadline = lease_id, now + grant.ttl
    trial.started_at = trial.started_at or now
    session.flush()  # a new row gets its id
    session.add(
        Attempt(
            lease_id=lease_id,
            trial_id=trial.id,
            attempt=trial.attempt,
            worker=grant.worker,
            token=grant.token,
            resume_step=resume_step,
            started_at=now,
        )
    )
    session.flush()


def _resume_step(session: Session, trial: Trial) -> int:
    """The step of the newest checkpoint; 0 where there is none, or its curve is not whole.

    A curve with a decision to prune is not: the next attempt has to reach that point itself.
    """
    kept = session.scalar(
        select(Artifact.step)
        .where(Artifact.trial_id == trial.id, Artifact.name == protocol.CHECKPOINT)
        .where(Artifact.step.is_not(None))
        .order_by(Artifact.attempt.desc())
        .limit(1)
    )
    if kept is None:
        return 0
    ended = select(Report.step).where(Report.trial_id == trial.id, Report.action != "continue")
    if session.scalar(ended.where(Report.step <= kept).limit(1)) is not None:
        return 0
    curve = curves.load(session, [trial.id], values_only=True).get(trial.id, [])
    return kept if sum(point.step <= kept for point in curve) == kept else 0


def fresh() -> ColumnElement[bool]:
    """Search rows that never ran: manual or enqueued, perhaps with parameters left to sample."""
    return and_(Trial.kind == "search", Trial.attempt == 0)


def fail_poisoned(session: WriteSession, now: datetime, study_id: int) -> None:
    """End the expired rows that have no attempt left."""
    poisoned = and_(Trial.study_id == study_id, _expired(now), Trial.lost >= MAX_LOST - 1)
    if session.scalar(select(Trial.id).where(poisoned).limit(1)) is None:
        return
    study = studies.lock(session, study_id)
    for trial in session.scalars(select(Trial).where(poisoned).with_for_update()):
        _close_lost(session, now, trial)
        trial.error_reason, trial.error_message = "poison", POISON
        studies.end(session, now, trial, "fail")
    studies.settle(session, now, study)


def extend_all(session: WriteSession, now: datetime, ttl: timedelta) -> None:
    """After a freeze of the server: nobody could renew, so nobody is late."""
    session.execute(
        update(Trial)
        .where(Trial.state == "running", Trial.lease_id.is_not(None), Trial.deadline < now + ttl)
        .values(deadline=now + ttl)
        .execution_options(synchronize_session=False)
    )


def _unfinished(study_id: int | BindParameter[int]) -> ColumnElement[bool]:
    """What an index finds at once, however many trials have ended."""
    return and_(Trial.study_id == study_id, Trial.state.in_(protocol.UNFINISHED))


def _expired(now: datetime | BindParameter[datetime]) -> ColumnElement[bool]:
    return and_(Trial.state == "running", Trial.lease_id.is_not(None), Trial.deadline < now)


def _claimable(now: datetime, expired: bool) -> ColumnElement[bool]:
    waiting = and_(Trial.state == "waiting", not_(fresh()))
    if not expired:
        return waiting
    return or_(waiting, and_(_expired(now), Trial.lost < MAX_LOST - 1))


def _close_lost(session: WriteSession, now: datetime, trial: Trial) -> None:
    attempt = session.get(Attempt, trial.lease_id)
    if attempt is not None:
        attempt.outcome, attempt.ended_at = "lost", now
    trial.lost += 1
    trial.lease_id, trial.deadline = None, None


# Asked for each lease, and made once: to make a statement takes longer than to run it.
_NAMED = select(Attempt).where(Attempt.lease_id.in_(bindparam("lease_ids", expanding=True)))
_OPEN = select(Study.id).where(
    Study.state.in_(("running", "finishing")),
    _asks_for().in_(bindparam("objectives", expanding=True)),
)
_OPEN_ONE = _OPEN.where(Study.id == bindparam("study"))
_RUNNING = (
    select(func.count())
    .select_from(Trial)
    .where(Trial.state == "running", Trial.study_id == Study.id)
    .scalar_subquery()
)
_FREE = (
    select(Trial.id)
    .where(_unfinished(bindparam("study")))
    .where(or_(Trial.state == "waiting", _expired(bindparam("now"))))
    .limit(1)
)

# --- tell and release -----------------------------------------------------------------------


def tell(
    session: WriteSession, now: datetime, lease_id: str, told: protocol.Tell, *, token: str
) -> protocol.Told:
    """End the trial with what its holder found; the same tell again gets the same answer."""
    digest = hashlib.sha256(told.model_dump_json().encode()).hexdigest()
    attempt, study, trial = _locked(session, lease_id, token)
    if attempt.tell_digest == digest:
        return protocol.Told(state=trial.state, values=trial.values)
    _require_held(attempt, trial)
    _apply(session, study, trial, told)
    attempt.tell_digest, attempt.notes = (
        digest,
        told.notes | told.judged.model_dump(exclude_none=True),
    )
    attempt.error = trial.error_message
    studies.end(session, now, trial, trial.state)
    if study.state == "running" and study.ended_by is None and budgets.is_content(study, trial):
        study.ended_by = "target"
    studies.settle(session, now, study)
    return protocol.Told(state=trial.state, values=trial.values)


def release(session: WriteSession, now: datetime, lease_id: str, *, token: str) -> protocol.Told:
    """Give the trial back unfinished: it waits again, and no attempt counts as lost."""
    attempt, _, trial = _locked(session, lease_id, token)
    if attempt.outcome != "released":
        _require_held(attempt, trial)
        attempt.outcome, attempt.ended_at = "released", now
        trial.state, trial.lease_id, trial.deadline = "waiting", None, None
    return protocol.Told(state=trial.state, values=trial.values)


def _locked(session: WriteSession, lease_id: str, token: str) -> tuple[Attempt, Study, Trial]:
    """The attempt with its study and trial, locked in this order."""
    query = select(Trial.study_id, Trial.id).join(Attempt, Attempt.trial_id == Trial.id)
    named = query.where(Attempt.lease_id == lease_id, Attempt.token == token)
    if (found := session.execute(named).one_or_none()) is not None:
        study = studies.lock(session, found.study_id)
        trial = session.get(Trial, found.id, with_for_update=True)
        attempt = session.get(Attempt, lease_id)
        if trial is not None and attempt is not None:
            return attempt, study, trial
    raise errors.LeaseLost("No such lease: it was never granted, or its study was deleted.")


def _require_held(attempt: Attempt, trial: Trial) -> None:
    if trial.lease_id == attempt.lease_id and trial.state == "running":
        return
    if attempt.outcome == "cancelled":
        raise errors.TrialCancelled()
    raise errors.TrialFinished() if attempt.outcome == "told" else errors.LeaseLost()


def _apply(session: WriteSession, study: Study, trial: Trial, told: protocol.Tell) -> None:
    values = told.values
    if told.state == "pruned" and values is None:
        values = _pruned_values(session, trial)
    if values is not None and len(values) != len(study.directions):
        raise errors.invalid(
            "values", f"the study has {len(study.directions)} metrics: give as many values"
        )
    trial.state, trial.epoch = told.state, told.epoch
    trial.metrics = told.metrics
    trial.estimates = [estimate.model_dump() for estimate in told.estimates]
    if told.error is not None:
        trial.error_reason, trial.error_message = told.error.reason, told.error.message
    if values is None:
        return
    if any(value is None or not math.isfinite(value) for value in values):
        trial.state = "pruned" if told.state == "pruned" else "fail"
        trial.error_reason = trial.error_reason or "non_finite"
        trial.error_message = trial.error_message or "The value is not a finite number."
    elif told.state != "fail":
        trial.values = values


def _pruned_values(session: Session, trial: Trial) -> list[float | None] | None:
    # Nothing is stored behind a pruning, so the last point is the one that was judged.
    curve = curves.load(session, [trial.id]).get(trial.id, [])
    return curve[-1].values if curve else None


# --- cancel and heartbeat -------------------------------------------------------------------


def cancel(session: WriteSession, now: datetime, study_id: int, number: int) -> Trial:
    """End an unfinished search trial at once; its worker learns it from its next answer."""
    study = studies.lock(session, study_id)
    trial = session.scalar(
        select(Trial).where(Trial.study_id == study_id, Trial.number == number).with_for_update()
    )
    if trial is None:
        raise errors.NotFound(f"There is no trial {number} in this study.")
    if trial.state == "cancelled":
        return trial
    if trial.state in protocol.TERMINAL:
        raise errors.TrialFinished()
    studies.end(session, now, trial, "cancelled")
    studies.settle(session, now, study)
    return trial


def beat(
    session: WriteSession,
    now: datetime,
    name: str,
    given: protocol.Beat,
    *,
    token: str,
    ttl: timedelta,
) -> protocol.Held:
    """Note that the worker lives and renew all of its leases in one statement."""
    worker = session.get(Worker, name)
    if worker is None:
        worker = Worker(name=name, first_seen=now)
        session.add(worker)
    worker.device, worker.last_seen = given.device, now
    attempts = {
        a.lease_id: a
        for a in session.scalars(select(Attempt).where(Attempt.lease_id.in_(given.lease_ids)))
        if a.token == token
    }
    held = set(
        session.scalars(
            update(Trial)
            .where(Trial.lease_id.in_(list(attempts)), Trial.state == "running")
            .values(deadline=now + ttl)
            .returning(Trial.lease_id)
            .execution_options(synchronize_session=False)
        )
    )
    return protocol.Held(leases={i: _fate(i, held, attempts) for i in given.lease_ids})


def _fate(lease_id: str, held: set[str | None], attempts: dict[str, Attempt]) -> protocol.Fate:
    if lease_id in held:
        return "held"
    attempt = attempts.get(lease_id)
    ended = attempt is not None and attempt.outcome in ("told", "cancelled")
    return "stop" if ended else "lost"
