"""From a lease request to its answer: stored rows first, then fresh proposals."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from hpo_service import budgets, confirm, errors, files, final, leases, protocol, seeds, studies
from hpo_service.database import WriteSession
from hpo_service.proposing import Proposal
from hpo_service.service import Service
from hpo_service.suggest import Search
from hpo_service.tables import Attempt, Study, Trial

BUSY_SECONDS = 1.0  # a sampler is at work for somebody else
IDLE_SECONDS = 2.0  # nothing to lease at present
MAX_COLLISIONS = 20

# full: nothing is missing any more; collision: the view had grown old.
Outcome = Literal["full", "some", "collision", "nothing"]


def lease(
    service: Service, request: protocol.LeaseRequest, study_id: int | None, token: str
) -> protocol.Leases:
    """Lease up to `len(request.lease_ids)` trials of one study; repeatable without effect."""
    if service.draining.is_set():
        raise errors.Unavailable("The server is stopping.", retry_after=5)
    # Leases are the dear requests: a crowd of them must not keep heartbeats and reports waiting.
    if not service.lease_slots.acquire(blocking=False):
        return protocol.Leases(leases=[], retry_after=BUSY_SECONDS)
    try:
        return _lease(service, request, study_id, token)
    finally:
        service.lease_slots.release()


def _lease(
    service: Service, request: protocol.LeaseRequest, study_id: int | None, token: str
) -> protocol.Leases:
    freeze = service.pulse.freeze
    if freeze is not None:
        service.database.transact(lambda s, now: leases.extend_all(s, now, service.ttl))
        service.pulse.clear(freeze)
    with service.database.read() as session:
        held = leases.live(session, request.lease_ids, token)
        if held:
            study_id = next(iter(held.values())).study_id
        open_studies = leases.candidates(session, study_id, request.objectives)
    return _first_with_work(service, request, token, open_studies, held, freeze is not None)


def _first_with_work(
    service: Service,
    request: protocol.LeaseRequest,
    token: str,
    open_studies: list[int],
    held: dict[str, Trial],
    frozen: bool,
) -> protocol.Leases:
    if len(held) == len(request.lease_ids):
        return protocol.Leases(leases=answer(service, request, token))
    busy = False
    for study_id in open_studies:
        granting = _Granting(service, request, token, study_id, expired=not frozen)
        granted = granting.run()
        busy = busy or granting.busy
        if granted:
            return protocol.Leases(leases=granted, retry_after=None)
    if held:  # the study has closed since; its live leases are answered all the same
        return protocol.Leases(leases=answer(service, request, token))
    wait = BUSY_SECONDS if busy else IDLE_SECONDS
    return protocol.Leases(leases=[], retry_after=wait)


class _Granting:
    """One lease request against one study."""

    def __init__(
        self,
        service: Service,
        request: protocol.LeaseRequest,
        token: str,
        study_id: int,
        *,
        expired: bool,
    ) -> None:
        self.service, self.request, self.token = service, request, token
        self.study_id, self.expired = study_id, expired
        self.grant = leases.Grant(request.worker, token, service.ttl)
        self.busy = False
        self.started: dict[str, protocol.TrialLease] = {}

    def run(self) -> list[protocol.TrialLease]:
        """Manual rows first, then other stored ones, then proposals; the leases held at the end."""
        database = self.service.database
        with database.read() as session:
            stored = leases.any_free(session, database.now(session), self.study_id)
            manual = stored and _manual(session, self.study_id) is not None
        if manual:
            self._sample(manual_only=True)
        if stored:
            database.transact(self._claim)
        if not stored or self._missing():
            self._sample(manual_only=False)
        if len(self.started) == len(self.request.lease_ids):
            return [self.started[lease_id] for lease_id in self.request.lease_ids]
        held = answer(self.service, self.request, self.token)
        if len(held) < len(self.request.lease_ids) and not self.busy:
            database.transact(self._settle)
        return held

    def _missing(self) -> list[str]:
        """The ids that hold nothing yet."""
        with self.service.database.read() as session:
            return self._missing_in(session)

    def _missing_in(self, session: Session) -> list[str]:
        held = leases.live(session, self.request.lease_ids, self.token)
        return [i for i in self.request.lease_ids if i not in held]

    def _claim(self, session: WriteSession, now: datetime) -> None:
        if self.expired:
            leases.fail_poisoned(session, now, self.study_id)
        free = self._missing_in(session)
        leases.claim(session, now, self.study_id, free, self.grant, expired=self.expired)

    def _settle(self, session: WriteSession, now: datetime) -> None:
        """End a study whose last trial was ended by an Optuna client, past our own calls, or whose
        time is over.
        """
        study = session.get(Study, self.study_id)
        if study is None:
            return
        if not studies.is_open(study) or budgets.overdrawn(session, now, study) is not None:
            studies.settle(session, now, studies.lock(session, self.study_id))

    def _sample(self, *, manual_only: bool) -> None:
        with self.service.searches.turn(self.study_id) as search:
            if search is None:
                self.busy = not (manual_only or self._take_spare())
                return
            collisions = 0
            while collisions < MAX_COLLISIONS:
                outcome = self._some(search, manual_only)
                if outcome in ("full", "nothing"):
                    return
                collisions += outcome == "collision"

    def _some(self, search: Search, manual_only: bool) -> Outcome:
        """Set the parameters of a manual trial, or of as many as are missing, and start them."""
        with self.service.database.read() as session:
            # Asked anew each time: a repeated request may have been served while this one waited.
            missing = self._missing_in(session)
            study = session.get(Study, self.study_id)
            if not missing or study is None or study.state != "running":
                return "nothing"
            waiting = _manual(session, self.study_id)
            reason = budgets.overdrawn(session, self.service.database.now(session), study)
            more = reason is None and waiting is None and studies.is_open(study)
            gain = search.nothing_to_gain(session, study) if more and not manual_only else None
            if reason or gain:
                proposals, waiting = [], None
            elif waiting is not None:
                proposals = [search.complete(session, study, waiting)]
            elif manual_only or not studies.is_open(study):
                return "nothing"
            else:
                count = min(len(missing), studies.room(study))
                proposals = search.propose(session, study, count, alike=self.request.alike)
        if not proposals:
            self._close(reason or ("no_gain" if gain else "space"), gain)
            return "nothing"
        return self._start(missing, proposals, waiting.id if waiting else None)

    def _take_spare(self) -> bool:
        """Start a trial that was prepared for callers who come while the sampler is at work."""
        with self.service.database.read() as session:
            study = session.get(Study, self.study_id)
            missing = self._missing_in(session)
            if study is None or not missing or not studies.is_open(study):
                return False
            spare = self.service.searches.spare(study)
        return spare is not None and self._start(missing, [spare], None) != "collision"

    def _start(
        self, lease_ids: list[str], proposals: list[Proposal], waiting: int | None
    ) -> Outcome:
        held = self.service.database.transact(
            lambda s, now: self._insert(s, now, lease_ids, proposals, waiting)
        )
        self.started |= held
        if len(held) == len(lease_ids):
            return "full"
        return "some" if held else "collision"

    def _close(self, reason: protocol.EndedBy, gain: protocol.Gain | None) -> None:
        self.service.database.transact(
            lambda s, now: studies.close(s, now, self.study_id, reason, gain)
        )

    def _insert(
        self,
        session: WriteSession,
        now: datetime,
        lease_ids: list[str],
        proposals: list[Proposal],
        waiting: int | None,
    ) -> dict[str, protocol.TrialLease]:
        """Start trials, only as many as the study takes by now; what the ids hold then."""
        study = studies.lock(session, self.study_id)
        held = leases.live(session, lease_ids, self.token)
        free = [lease_id for lease_id in lease_ids if lease_id not in held]
        for lease_id, proposal in zip(free, proposals, strict=False):
            trial = self._row(session, now, study, proposal, waiting)
            if trial is None:
                break
            trial.params, trial.distributions = proposal.params, proposal.distributions
            trial.system_attrs = (trial.system_attrs or {}) | proposal.system_attrs
            if proposal.study_system_attrs:
                study.system_attrs = study.system_attrs | proposal.study_system_attrs
            leases.start(session, now, trial, lease_id, self.grant)
            held[lease_id] = trial
        return {lease_id: build(session, self.service, trial) for lease_id, trial in held.items()}

    def _row(
        self,
        session: WriteSession,
        now: datetime,
        study: Study,
        proposal: Proposal,
        waiting: int | None,
    ) -> Trial | None:
        """The row to start: the waiting one, or a new one; None where somebody was faster."""
        if waiting is not None:
            trial = session.get(Trial, waiting, with_for_update=True, populate_existing=True)
            return trial if trial is not None and trial.state == "waiting" else None
        number = studies.take_number(session, study.id, expected=proposal.number)
        if number is None:
            return None
        trial = Trial(
            study_id=study.id,
            kind="search",
            number=number,
            state="waiting",
            attempt=0,
            created_at=now,
        )
        session.add(trial)
        return trial


def _manual(session: Session, study_id: int) -> Trial | None:
    """The oldest search row that waits for its first attempt: some parameters may be open yet."""
    return session.scalar(_OLDEST, {"study": study_id})


_OLDEST = (
    select(Trial)
    .where(Trial.study_id == bindparam("study"), Trial.state == "waiting", leases.fresh())
    .order_by(Trial.id)
    .limit(1)
)


def answer(
    service: Service, request: protocol.LeaseRequest, token: str
) -> list[protocol.TrialLease]:
    """The trials that the request's ids hold, in the order of the ids."""
    with service.database.read() as session:
        held = leases.live(session, request.lease_ids, token)
        return [build(session, service, held[i]) for i in request.lease_ids if i in held]


def build(session: Session, service: Service, trial: Trial) -> protocol.TrialLease:
    """All a worker needs to run the trial's current attempt."""
    study = session.get_one(Study, trial.study_id)
    spec = studies.spec_of(study)
    objective = spec.objective if spec else protocol.ExternalObjective(kind="external")
    model, fixed = trial.model, {}
    if isinstance(objective, protocol.TrainObjective) and model is None:
        model, fixed = objective.model, objective.params
    elif isinstance(objective, protocol.CustomObjective):
        fixed = objective.params
    attempt = session.get(Attempt, trial.lease_id)
    return protocol.TrialLease(
        lease_id=trial.lease_id or "",
        study_id=study.id,
        study=study.name,
        trial_id=trial.id,
        number=trial.number,
        kind=trial.kind,
        attempt=trial.attempt,
        ttl=service.settings.lease_ttl,
        resume_step=attempt.resume_step if attempt else 0,
        model=model,
        params=fixed | trial.params,
        epoch=trial.epoch if trial.kind == "confirm" else None,
        seed=_seed(study, trial),
        study_seed=_study_seed(study, trial),
        objective=_evaluated(objective, trial),
        data=study.search_sha256,
        **(_of_final(session, study) if trial.kind == "final" else {}),
    )


def _of_final(session: Session, study: Study) -> dict[str, Any]:
    """What a final lease alone names."""
    objective, winner = confirm.objective_of(study), final.winner(session, study)
    of_folds = objective is not None and objective.serve == "folds" and winner is not None
    return {
        "holdout": study.holdout_sha256,
        "refits": final.refits(session, study),
        "members": final.members(session, study),
        "predictions": files.out_of_fold(session, study),
        "networks": files.fold_networks(session, winner) if winner and of_folds else None,
    }


def _evaluated(objective: protocol.Objective, trial: Trial) -> protocol.Objective:
    """The study's objective, as this row is to evaluate it."""
    if trial.kind != "confirm" or not isinstance(objective, protocol.TrainObjective):
        return objective
    fresh = confirm.validation(trial, objective.validation)
    return objective.model_copy(update={"validation": fresh})


def _study_seed(study: Study, trial: Trial) -> int:
    return seeds.fresh_folds_seed(study.seed) if trial.kind == "confirm" else study.seed


def _seed(study: Study, trial: Trial) -> int:
    if trial.kind == "confirm":
        return seeds.confirm_seed(study.seed, trial.system_attrs[confirm.OF])
    if trial.number is not None:
        return seeds.trial_seed(study.seed, trial.number)
    return seeds.baseline_seed(study.seed, trial.model or trial.kind)
