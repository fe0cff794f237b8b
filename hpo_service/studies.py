"""Studies: made from a checked spec, changed by hand, and brought to their end."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from optuna.distributions import distribution_to_json
from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import Session

from hpo_service import budgets, confirm, constraints, errors, final, protocol, space
from hpo_service.database import WriteSession
from hpo_service.plans import Plan
from hpo_service.tables import Attempt, Study, Trial

# Where a study notes what it could still have gained when it ended.
GAIN = "gain"


def get(session: Session, name_or_id: str) -> Study:
    """The study of this id (all digits) or name; `NotFound` otherwise."""
    study = None
    if name_or_id.isascii() and name_or_id.isdigit():
        if int(name_or_id) <= protocol.MAX_INT:
            study = session.get(Study, int(name_or_id))
    elif "\x00" not in name_or_id:
        study = session.scalar(select(Study).where(Study.name == name_or_id))
    if study is None:
        raise errors.NotFound(f"There is no study {name_or_id!r}: `GET /v1/studies` lists them.")
    return study


def lock(session: WriteSession, study_id: int) -> Study:
    """The study with its row locked: first of the order study, trial, attempt."""
    study = session.get(
        Study, study_id, with_for_update={"key_share": True}, populate_existing=True
    )
    if study is None:
        raise errors.NotFound("The study was deleted.")
    return study


def require_free_name(session: Session, name: str) -> None:
    """Raises `NameTaken`."""
    if session.scalar(select(Study.id).where(Study.name == name)):
        raise errors.NameTaken(f"A study named {name!r} exists already: choose another name.")


def insert(session: WriteSession, now: datetime, plan: Plan) -> Study:
    """Store a planned study and its baseline rows."""
    spec = plan.spec
    require_free_name(session, spec.name)
    study = Study(
        name=spec.name,
        kind=spec.objective.kind,
        function=plan.function,
        spec=spec.model_dump(mode="json"),
        directions=plan.directions,
        state="running",
        seed=spec.seed,
        budget_trials=spec.budget.trials,
        search_sha256=plan.search_sha256,
        holdout_sha256=plan.holdout_sha256,
        created_at=now,
    )
    session.add(study)
    session.flush()
    for family in plan.baselines:
        session.add(
            Trial(study_id=study.id, kind="baseline", state="waiting", model=family, created_at=now)
        )
    for params in plan.first:
        _queue(session, now, study, params, {"default": True} if plan.default else {})
    session.refresh(study)
    return study


def delete(session: WriteSession, study_id: int) -> None:
    """Delete the study and all that belongs to it; its id never comes back."""
    session.delete(lock(session, study_id))


def spec_of(study: Study) -> protocol.StudySpec | None:
    """The spec as stored; None for a study made through the Optuna bridge."""
    return None if study.spec is None else protocol.StudySpec.model_validate(study.spec)


# --- numbered trials ------------------------------------------------------------------------


def take_number(session: WriteSession, study_id: int, expected: int | None = None) -> int | None:
    """Take the study's next number; None where budget, state or `expected` stand against it.

    The guard of all inserts: its row lock makes budget and pause exact, and comparing `expected`
    tells a proposal made on a view that has grown old since.
    """
    if expected is None:
        taken = session.scalar(_NEXT_NUMBER, {"study": study_id})
    else:
        taken = session.scalar(_NUMBER_AS_SEEN, {"study": study_id, "seen": expected})
    return None if taken is None else taken - 1


# Made once: to make a statement takes longer than to run it.
_NUMBER = (
    update(Study)
    .where(Study.id == bindparam("study"), Study.ended_by.is_(None))
    .where((Study.budget_trials.is_(None)) | (Study.n_trials < Study.budget_trials))
    .values(n_trials=Study.n_trials + 1)
    .returning(Study.n_trials)
    .execution_options(synchronize_session=False)
)
_NEXT_NUMBER = _NUMBER.where(Study.state.in_(("running", "paused")))
_NUMBER_AS_SEEN = _NUMBER.where(Study.state == "running", Study.n_trials == bindparam("seen"))


def add_trial(
    session: WriteSession, now: datetime, study: Study, params: dict[str, protocol.ParamValue]
) -> Trial:
    """Queue a manual trial: evaluated once, before sampled ones.

    Raises `BudgetSpent`, `HeldOutSpent`, `WrongState`, `InvalidRequest`.
    """
    spec = spec_of(study)
    if spec is None or spec.search_space is None:
        raise errors.WrongState("This study has no search space of its own: use its Optuna client.")
    params = space.labelled(spec.search_space, params)
    space.check_params(spec.search_space, params)
    constraints.check_params(constraints.cube_of(spec), params)
    trial = _queue(session, now, study, params, {})
    if trial is None:
        raise _why_closed(session, lock(session, study.id))
    return trial


def _queue(
    session: WriteSession,
    now: datetime,
    study: Study,
    params: space.Params,
    attrs: dict[str, Any],
) -> Trial | None:
    """A waiting row with these parameters; None where the study takes no more."""
    number = take_number(session, study.id)
    if number is None:
        return None
    spec = protocol.StudySpec.model_validate(study.spec)
    distributions = {
        name: distribution_to_json(distribution)
        for name, distribution in space.distributions(spec.search_space or {}).items()
        if name in params
    }
    trial = Trial(
        study_id=study.id,
        kind="search",
        number=number,
        state="waiting",
        params=dict(params),
        distributions=distributions,
        system_attrs={"fixed_params": dict(params), **attrs},
        created_at=now,
    )
    session.add(trial)
    session.flush()
    return trial


def _why_closed(session: Session, study: Study) -> errors.Conflict:
    if _held_out_spent(session, study):
        return errors.HeldOutSpent()
    if study.state not in ("running", "paused"):
        return errors.WrongState(f"The study is {study.state}: it takes no more trials.")
    return errors.BudgetSpent()


def _held_out_spent(session: Session, study: Study) -> bool:
    return bool(
        session.scalar(
            select(Attempt.lease_id)
            .join(Trial, Trial.id == Attempt.trial_id)
            .where(Trial.study_id == study.id, Trial.kind == "final")
            .limit(1)
        )
    )


# --- changes by hand ------------------------------------------------------------------------


def patch(
    session: WriteSession, now: datetime, study_id: int, change: protocol.StudyPatch
) -> Study:
    """Pause, resume, stop, or give another budget."""
    study = lock(session, study_id)
    if change.budget is not None:
        _set_budget(session, now, study, change.budget)
    if change.state == "finished":
        _stop(session, now, study)
    elif change.state is not None and change.state != study.state:
        if study.state not in ("running", "paused"):
            raise errors.WrongState(f"The study is {study.state}: it cannot be {change.state}.")
        study.state = change.state
    settle(session, now, study)
    session.flush()
    return study


def _set_budget(
    session: WriteSession, now: datetime, study: Study, budget: protocol.Budget
) -> None:
    if _held_out_spent(session, study):
        raise errors.HeldOutSpent()
    if budget.trials is not None and budget.trials < study.n_trials:
        raise errors.invalid(
            "budget.trials", f"{study.n_trials} trials are numbered already: give at least that"
        )
    budgets.check(budget, len(study.directions))
    study.budget_trials = budget.trials
    if study.spec is not None:
        study.spec = study.spec | {"budget": budget.model_dump(mode="json")}
    room_left = budget.trials is None or budget.trials > study.n_trials
    spent = budgets.overdrawn(session, now, study) is not None
    if study.ended_by not in (None, "space", "user") and room_left and not spent:
        _reopen(session, study)
    elif study.state in ("finishing", "finished") and room_left and not spent:
        raise errors.WrongState(f"The study was ended by {study.ended_by}: make a new one.")


def _reopen(session: WriteSession, study: Study) -> None:
    for row in session.scalars(
        select(Trial).where(Trial.study_id == study.id, Trial.kind.in_(("confirm", "final")))
    ):
        session.delete(row)
    study.state, study.ended_by, study.ended_at = "running", None, None
    study.system_attrs = {k: v for k, v in study.system_attrs.items() if k != GAIN}


def _stop(session: WriteSession, now: datetime, study: Study) -> None:
    """End the search now: what is unfinished is cancelled, the best so far goes to the end."""
    if study.state in ("finishing", "finished"):
        return
    rows = session.scalars(
        select(Trial)
        .where(Trial.study_id == study.id, Trial.state.in_(protocol.UNFINISHED))
        .where(Trial.kind == "search")
        .order_by(Trial.id)
        .with_for_update()
    )
    for trial in rows:
        end(session, now, trial, "cancelled")
    study.state, study.ended_by = "running", "user"


def end(session: WriteSession, now: datetime, trial: Trial, state: protocol.TrialState) -> None:
    """Put a locked row into a terminal state and close its attempt the same way."""
    trial.state, trial.ended_at = state, now
    if trial.lease_id is not None:
        attempt = session.get(Attempt, trial.lease_id)
        if attempt is not None and attempt.outcome is None:
            attempt.outcome = "cancelled" if state == "cancelled" else "told"
            attempt.ended_at = now
    trial.lease_id, trial.deadline = None, None


# --- the end --------------------------------------------------------------------------------


def settle(session: WriteSession, now: datetime, study: Study) -> None:
    """Move a locked study on where its rows allow it: to `finishing`, then to `finished`.

    Baselines count too: what they came to decides which of them is confirmed and refitted.

    Called by every transaction that ends a row or closes the search.
    """
    session.flush()
    if study.state == "running" and study.ended_by is None:
        study.ended_by = budgets.overdrawn(session, now, study)
    if study.state == "running" and study.ended_by in budgets.CUTS:
        _drop_waiting(session, now, study)
    unfinished = _unfinished_kinds(session, study.id)
    if study.state == "running" and not is_open(study) and "search" not in unfinished:
        study.state, study.ended_by = "finishing", study.ended_by or "budget"
    if study.state == "finishing" and not unfinished and not _next_row(session, now, study):
        study.state, study.ended_at = "finished", now


def _drop_waiting(session: WriteSession, now: datetime, study: Study) -> None:
    """Cancel the numbered trials that wait: there is nothing left to spend on them."""
    rows = session.scalars(
        select(Trial)
        .where(Trial.study_id == study.id, Trial.kind == "search", Trial.state == "waiting")
        .order_by(Trial.id)
        .with_for_update()
    ).all()
    for trial in rows:
        end(session, now, trial, "cancelled")
    session.flush()


def _next_row(session: WriteSession, now: datetime, study: Study) -> bool:
    """Add what comes next in a study whose rows have all ended: confirm rows, then the final one;
    whether there was anything to add.
    """
    if study.kind != "train" or _has_final(session, study):
        return False
    if (study.spec or {}).get("select") == "none":
        return False
    if confirm.start(session, now, study):
        return True
    if final.winner(session, study) is None:
        return False
    session.add(Trial(study_id=study.id, kind="final", state="waiting", created_at=now))
    return True


def _has_final(session: Session, study: Study) -> bool:
    query = select(Trial.id).where(Trial.study_id == study.id, Trial.kind == "final")
    return session.scalar(query.limit(1)) is not None


def close(
    session: WriteSession,
    now: datetime,
    study_id: int,
    reason: protocol.EndedBy,
    gain: protocol.Gain | None = None,
) -> None:
    """No more trials are to be proposed: the study ends with what it has."""
    study = lock(session, study_id)
    if study.state == "running" and study.ended_by is None:
        study.ended_by = reason
        if gain is not None:
            study.system_attrs = study.system_attrs | {GAIN: gain.model_dump()}
    settle(session, now, study)


def is_open(study: Study) -> bool:
    """Whether a running study takes another proposal."""
    spent = study.budget_trials is not None and study.n_trials >= study.budget_trials
    return study.state == "running" and study.ended_by is None and not spent


def room(study: Study) -> int:
    """How many more trials the study takes."""
    if study.budget_trials is None:
        return protocol.MAX_INT
    return study.budget_trials - study.n_trials


def _unfinished_kinds(session: Session, study_id: int) -> set[str]:
    return set(session.scalars(_UNFINISHED_KINDS, {"study": study_id}))


_UNFINISHED_KINDS = (
    select(Trial.kind)
    .where(Trial.study_id == bindparam("study"), Trial.state.in_(protocol.UNFINISHED))
    .distinct()
)


def counts(session: Session, study_ids: list[int]) -> dict[int, protocol.Counts]:
    """Numbered trials by state, for several studies in one query."""
    found: dict[int, dict[str, int]] = {study_id: {} for study_id in study_ids}
    rows = session.execute(
        select(Trial.study_id, Trial.state, func.count())
        .where(Trial.study_id.in_(study_ids), Trial.kind == "search")
        .group_by(Trial.study_id, Trial.state)
    )
    for study_id, state, count in rows:
        found[study_id][state] = count
    return {study_id: protocol.Counts(**by_state) for study_id, by_state in found.items()}
