"""Proposes the parameters of trials, on a view of the study in memory.

No transaction is open while a sampler thinks. The study's rows alone decide the answer: what
samplers remember is derived from them.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from optuna.distributions import distribution_to_json
from sqlalchemy.orm import Session

from hpo_service import errors, protocol, space
from hpo_service.constraints import cube_of
from hpo_service.database import ReadSession
from hpo_service.judging import Judge, Point
from hpo_service.ledger import Ledger
from hpo_service.samplers import SAMPLERS, Ask, Suggestion
from hpo_service.samplers.independent import RandomSampler
from hpo_service.seen import Seen, nothing
from hpo_service.tables import Study, Trial

TURN_SECONDS = 0.2
MAX_WAITING = 8
# Trials that a sampler which takes long prepares beside those asked for.
SPARES = 3
# Where a trial notes what its proposal depended on, so that it can be made again.
BASIS = "proposal"

log = logging.getLogger(__name__)


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

    def spare(self, study: Study) -> Proposal | None:
        """A trial of a study whose turn somebody else has, if one was prepared; it does not know
        the results that have arrived since.
        """
        return self._search(study.id).spare(study)

    def judge(
        self, session: Session, study: Study, points: Sequence[Point]
    ) -> list[protocol.Decision]:
        """Decide on each point in the given order, each seeing those before it.

        Takes no turn: a sampler may be at work meanwhile. `session` must not have ended a trial.
        """
        return self._search(study.id).judge.decide(session, study, points)

    def forget(self, study_id: int) -> None:
        """Free what is kept in memory about a study."""
        with self._lock:
            self._searches.pop(study_id, None)

    def _search(self, study_id: int) -> Search:
        with self._lock:
            if study_id not in self._searches:
                self._searches[study_id] = Search(self._count)
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
    """Proposes trials of one study; only inside `Searches.turn`, but for `spare` and `judge`."""

    def __init__(self, count: Callable[[], None]) -> None:
        self.lock = threading.Lock()
        self.judge = Judge()
        self._count = count
        self._open: _Open | None = None
        self._spares = _Spares()

    def propose(self, session: ReadSession, study: Study, count: int = 1) -> list[Proposal]:
        """The next trials; none where the space is exhausted."""
        opened = self._opened(study)
        if opened.entry.blind:
            return opened.each(study, count)
        seen = opened.ledger.seen(session, study)
        if not opened.entry.slow:
            return self._asked(opened, study, seen, count)
        finished = int((~seen.pending).sum())
        if not (proposals := self._spares.fresh(count, finished, study)):
            found = self._asked(opened, study, seen, count + SPARES)
            proposals = found[:count]
            self._spares.put(found[count:], finished)
        return proposals

    def spare(self, study: Study) -> Proposal | None:
        """A trial that was prepared, whatever has arrived since; takes no turn."""
        return self._spares.stale(study)

    def complete(self, session: ReadSession, study: Study, trial: Trial) -> Proposal:
        """All parameters of a waiting trial: the fixed ones kept, the others sampled."""
        opened, number = self._opened(study), trial.number or 0
        given = trial.system_attrs.get("fixed_params", {}) | trial.params
        searched = opened.cube.space
        fixed = {
            name: value
            for name, value in given.items()
            # Optuna enqueues anything: what the space does not have is not evaluated.
            if name in searched and space.possible(searched[name], value)
        }
        if space.is_complete(searched, fixed):
            return opened.proposal(number, Suggestion(opened.ordered(fixed)))
        seen = opened.ledger.seen(session, study)
        self._count()
        ask = Ask(number, opened.entry.seed(study.seed, number), fixed=fixed)
        return opened.proposals(study, seen, ask)[0]

    def _opened(self, study: Study) -> _Open:
        if self._open is None or self._open.revision != study.revision:
            self._open, self._spares = _Open(study), _Spares()
        return self._open

    def _asked(self, opened: _Open, study: Study, seen: Seen, count: int) -> list[Proposal]:
        self._count()
        number = study.n_trials
        ask = Ask(number, opened.entry.seed(study.seed, number), count=count)
        return opened.proposals(study, seen, ask)


class _Open:
    """What is kept of a study's search, as long as nothing finished is edited."""

    def __init__(self, study: Study) -> None:
        self.revision, spec = study.revision, _spec(study)
        if spec is None or spec.search_space is None:
            raise errors.WrongState(
                "This study has no search space of its own: use its Optuna client."
            )
        self.cube = cube_of(spec)
        self.entry = SAMPLERS[spec.sampler.name]
        self.sampler = self.entry.make(self.cube, spec.sampler.options)
        self.ledger = Ledger(study, self.cube)
        self._json = {n: distribution_to_json(d) for n, d in self.cube.distributions.items()}

    def each(self, study: Study, count: int) -> list[Proposal]:
        """Trials that depend on no other one, each from a seed of its own."""
        none = nothing(self.cube, len(study.directions))
        found: list[Proposal] = []
        for number in range(study.n_trials, study.n_trials + count):
            ask = Ask(number, self.entry.seed(study.seed, number))
            found += self.proposals(study, none, ask)
        return found

    def proposals(self, study: Study, known: Seen, ask: Ask) -> list[Proposal]:
        """What the sampler suggests; random where it fails."""
        try:
            found = self.sampler.propose(known, ask)
        except Exception as error:  # numerical failures have many names, and the search goes on
            log.exception("The sampler failed: trial %d of %r is random.", ask.number, study.name)
            note = {"sampler_error": f"{type(error).__name__}: {error}"}
            found = RandomSampler(self.cube).propose(known, ask)
            found = [replace(each, attrs=note) for each in found]
        if not self.entry.blind:
            pending = np.flatnonzero(known.pending).tolist()
            basis = {"seen": len(known), "pending": pending, "count": ask.count}
            found = [
                replace(each, attrs={**each.attrs, BASIS: basis | {"place": place}})
                for place, each in enumerate(found)
            ]
        return [self.proposal(ask.number + at, each) for at, each in enumerate(found)]

    def proposal(self, number: int, suggestion: Suggestion) -> Proposal:
        """A suggestion as a trial to insert."""
        params = dict(suggestion.params)
        distributions = {name: self._json[name] for name in params}
        attrs, study_attrs = dict(suggestion.attrs), dict(suggestion.study_attrs)
        return Proposal(number, params, distributions, attrs, study_attrs)

    def ordered(self, params: space.Params) -> dict[str, protocol.ParamValue]:
        """In the order of the space, each value as its distribution has it."""
        return {
            name: d.to_external_repr(d.to_internal_repr(params[name]))
            for name, d in self.cube.distributions.items()
            if name in params and space.active(self.cube.space, name, params)
        }


class _Spares:
    """Trials prepared beside the ones asked for, of a sampler that takes long; thread-safe."""

    def __init__(self) -> None:
        self._prepared: deque[Proposal] = deque()
        self._finished = -1

    def put(self, proposals: list[Proposal], finished: int) -> None:
        """Replace all: these were made when so many trials had ended."""
        self._prepared, self._finished = deque(proposals), finished

    def fresh(self, count: int, finished: int, study: Study) -> list[Proposal]:
        """So many that know all results, or none."""
        if self._finished != finished or len(self._prepared) < count:
            return []
        return [
            replace(self._prepared.popleft(), number=study.n_trials + at) for at in range(count)
        ]

    def stale(self, study: Study) -> Proposal | None:
        """One, whatever has arrived since."""
        try:
            return replace(self._prepared.popleft(), number=study.n_trials)
        except IndexError:
            return None


def _spec(study: Study) -> protocol.StudySpec | None:
    return None if study.spec is None else protocol.StudySpec.model_validate(study.spec)
