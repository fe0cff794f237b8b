"""Proposes the parameters of trials and judges their reports, on a view of the study in memory.

No transaction is open while a sampler thinks. Samplers and pruners are made afresh for each
question: the study's rows alone decide the answer.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hpo_service import curves, errors, protocol, seeds, space
from hpo_service.database import ReadSession
from hpo_service.history import History, value_of
from hpo_service.pruners import PRUNERS
from hpo_service.samplers import SAMPLERS, SpaceExhausted
from hpo_service.tables import Report, Study, Trial
from hpo_service.view import View

TURN_SECONDS = 0.2
MAX_WAITING = 8
# The id of the trial that is being proposed: it has no row yet.
PROPOSED = -1

log = logging.getLogger(__name__)
# `catch_warnings` changes the process's filters and is not made for threads.
_quiet = threading.Lock()


@dataclass(frozen=True)
class Proposal:
    """A trial to insert as `number`, if that is still the study's next one.

    `distributions` holds Optuna's JSON of each parameter's distribution. The attributes are what
    the sampler noted, to be stored with the trial and the study.
    """

    number: int
    params: dict[str, protocol.ParamValue]
    distributions: dict[str, str]
    system_attrs: dict[str, Any] = field(default_factory=dict)
    study_system_attrs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """The decision on a point, and the attributes that the pruner noted on its trial."""

    decision: protocol.Decision
    system_attrs: dict[str, Any] = field(default_factory=dict)


class Point(Protocol):
    """A reported step, not stored yet: a `tables.Report`."""

    @property
    def trial_id(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def values(self) -> Any: ...


class Searches:
    """All searches of a process; safe to share between threads."""

    def __init__(self) -> None:
        self.samples = 0  # how often a sampler was asked
        self._lock = threading.Lock()
        self._searches: dict[int, Search] = {}
        self._waiting = 0

    @contextmanager
    def turn(self, study_id: int) -> Iterator[Search | None]:
        """The study's search, for the caller alone.

        None where another caller keeps it for `TURN_SECONDS`, or `MAX_WAITING` callers wait for
        one already: threads of the server are too few to wait for samplers.
        """
        search = self._search(study_id)
        if not self._acquired(search.lock):
            yield None
            return
        try:
            yield search
        finally:
            search.lock.release()

    def judge(self, session: Session, study: Study, points: Sequence[Point]) -> list[Judgement]:
        """Decide on each point in the given order, each seeing those before it.

        Takes no turn: a sampler may be at work meanwhile. `session` must not have ended a trial.
        """
        pruner = _pruner(study)
        if pruner is None or not points:
            return [Judgement(_continue(point)) for point in points]
        trials = self._search(study.id).history.trials(session, study)
        panel = _Panel(session, View(study, trials), pruner, points)
        with _quiet, warnings.catch_warnings():
            # NumPy warns about medians of nothing but NaN, which Optuna expects and handles.
            warnings.simplefilter("ignore", RuntimeWarning)
            return [panel.judge(point) for point in points]

    def forget(self, study_id: int) -> None:
        """Free what is kept in memory about a study."""
        with self._lock:
            self._searches.pop(study_id, None)

    def _search(self, study_id: int) -> Search:
        with self._lock:
            if study_id not in self._searches:
                self._searches[study_id] = Search(study_id, self._count)
            return self._searches[study_id]

    def _count(self) -> None:
        with self._lock:
            self.samples += 1

    def _acquired(self, lock: threading.Lock) -> bool:
        if lock.acquire(blocking=False):
            return True
        with self._lock:
            if self._waiting >= MAX_WAITING:
                return False
            self._waiting += 1
        try:
            return lock.acquire(timeout=TURN_SECONDS)
        finally:
            with self._lock:
                self._waiting -= 1


# --- proposing ------------------------------------------------------------------------------


class Search:
    """Proposes trials of one study; only inside `Searches.turn`."""

    def __init__(self, study_id: int, count: Callable[[], None]) -> None:
        self.lock = threading.Lock()
        self.history = History(study_id, live_curves=False)
        self._count = count

    def propose(self, session: ReadSession, study: Study) -> Proposal | None:
        """The next trial; None where the space is exhausted."""
        try:
            return self._sampled(session, study, study.n_trials, {})
        except SpaceExhausted:
            return None

    def complete(self, session: ReadSession, study: Study, trial: Trial) -> Proposal:
        """All parameters of a waiting trial: the fixed ones kept, the others sampled."""
        searched = _space(study)
        given = trial.system_attrs.get("fixed_params", {}) | trial.params
        fixed = {
            name: value
            for name, value in given.items()
            # Optuna enqueues anything: what the space does not have is not evaluated.
            if name in searched and space.possible(searched[name], value)
        }
        return self._sampled(session, study, trial.number or 0, fixed)

    def _sampled(
        self, session: ReadSession, study: Study, number: int, fixed: space.Params
    ) -> Proposal:
        searched = _space(study)
        if space.is_complete(searched, fixed):
            return _ask(RandomSampler(), View(study, []), searched, number, fixed)
        view = View(study, self.history.trials(session, study))
        self._count()
        try:
            return _ask(_sampler(study, number), view, searched, number, fixed)
        except SpaceExhausted:
            raise
        except Exception as error:  # numerical failures have many names, and the search goes on
            log.exception("The sampler failed: trial %d of %r is random.", number, study.name)
            sampler = RandomSampler(seeds.sampler_seed(study.seed, number))
            proposal = _ask(sampler, View(study, []), searched, number, fixed)
            note = {"sampler_error": f"{type(error).__name__}: {error}"}
            return replace(proposal, system_attrs=note)


def _ask(
    sampler: BaseSampler, view: View, searched: space.Space, number: int, fixed: space.Params
) -> Proposal:
    """Walk the space, parents first, as Optuna's protocol of samplers wants it."""
    study, trial = view.optuna_study(sampler=sampler), _proposed(number, fixed)
    sampler.before_trial(study, trial)
    together = sampler.infer_relative_search_space(study, trial)
    relative = sampler.sample_relative(study, trial, together)
    for name, distribution in space.distributions(searched).items():
        if not space.active(searched, name, trial.params):
            continue
        if name in fixed:
            value = fixed[name]
        elif distribution.single():
            value = _single(distribution)
        elif name in relative and together[name] == distribution:
            value = relative[name]
        else:
            value = sampler.sample_independent(study, trial, name, distribution)
        # There and back: a plain number of the right type, or the choice as it is listed.
        value = distribution.to_external_repr(distribution.to_internal_repr(value))
        trial.params[name], trial.distributions[name] = value, distribution
    return Proposal(
        number=number,
        params=trial.params,
        distributions={n: distribution_to_json(d) for n, d in trial.distributions.items()},
        system_attrs=view.trial_attrs.get(PROPOSED, {}),
        study_system_attrs=view.study_attrs,
    )


def _single(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution.low


def _proposed(number: int, fixed: space.Params) -> FrozenTrial:
    return FrozenTrial(
        number=number,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=None,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={"fixed_params": dict(fixed)} if fixed else {},
        intermediate_values={},
        trial_id=PROPOSED,
    )


def _sampler(study: Study, number: int) -> BaseSampler:
    asked = _spec(study).sampler
    return SAMPLERS[asked.name].make(_space(study), asked.options, study.seed, number)


def _space(study: Study) -> space.Space:
    searched = _spec(study).search_space if study.spec else None
    if searched is None:
        raise errors.WrongState("This study has no search space of its own: use its Optuna client.")
    return searched


def _spec(study: Study) -> protocol.StudySpec:
    return protocol.StudySpec.model_validate(study.spec)


# --- judging --------------------------------------------------------------------------------


class _Panel:
    """Judges one batch of points."""

    def __init__(
        self, session: Session, view: View, pruner: BasePruner, points: Sequence[Point]
    ) -> None:
        ids = {point.trial_id for point in points} & set(view.trials)
        self.view, self.pruner = view, pruner
        self.study = view.optuna_study(pruner=pruner)
        self.pruned_at = _pruned_at(session, ids)
        self.curves = {
            trial_id: {row.step: value_of(row.values[0]) for row in curve}
            for trial_id, curve in curves.load(session, ids, values_only=True).items()
        }

    def judge(self, point: Point) -> Judgement:
        if point.trial_id not in self.view.trials:  # a baseline is not pruned
            return Judgement(_continue(point))
        step = self.pruned_at.get(point.trial_id)
        if step is not None and step <= point.step:
            return Judgement(protocol.Decision(action="prune", step=step))
        trial = self.view.with_curve(point.trial_id, self._curve_to(point))
        self.view.trial_attrs.clear()
        decision = _continue(point)
        if self.pruner.prune(self.study, trial):
            self.pruned_at[point.trial_id] = point.step
            decision = protocol.Decision(action="prune", step=point.step)
        return Judgement(decision, self.view.trial_attrs.get(point.trial_id, {}))

    def _curve_to(self, point: Point) -> dict[int, float]:
        before = self.curves.get(point.trial_id, {})
        curve = {step: value for step, value in before.items() if step < point.step}
        curve[point.step] = value_of(point.values[0])
        self.curves[point.trial_id] = curve
        return curve


def _pruned_at(session: Session, trial_ids: set[int]) -> dict[int, int]:
    """Where trials were told to stop: a decision stands, also in the next attempt."""
    query = (
        select(Report.trial_id, func.min(Report.step))
        .where(Report.trial_id.in_(trial_ids), Report.action == "prune")
        .group_by(Report.trial_id)
    )
    return dict(session.execute(query).all())


def _pruner(study: Study) -> BasePruner | None:
    if study.spec is None or len(study.directions) > 1:
        return None
    asked = _spec(study).pruner
    return PRUNERS[asked.name].make(asked.options)


def _continue(point: Point) -> protocol.Decision:
    return protocol.Decision(action="continue", step=point.step)
