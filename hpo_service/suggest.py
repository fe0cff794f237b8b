"""Proposes the parameters of trials, on a view of the study in memory.

No transaction is open while a sampler thinks. The study's rows alone decide the answer: what
samplers remember is derived from them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy.orm import Session

from hpo_service import budgets, gain, protocol, space
from hpo_service.database import ReadSession
from hpo_service.judging import Judge, Point
from hpo_service.proposing import Proposal, Proposer
from hpo_service.samplers import Suggestion
from hpo_service.tables import Study, Trial

TURN_SECONDS = 0.2
MAX_WAITING = 8
# Trials that a sampler which takes long prepares beside those asked for.
SPARES = 3


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
        self._proposer: Proposer | None = None
        self._spares = _Spares()
        # What there was to gain when so many trials had ended.
        self._gain: tuple[int, protocol.Gain | None] | None = None

    def propose(
        self, session: ReadSession, study: Study, count: int = 1, *, alike: int = 1
    ) -> list[Proposal]:
        """The next trials; none where the space is exhausted.

        `alike`: so many in a row can be trained in one pass, as far as the family tells which can.
        """
        proposer, number = self._current(study), study.n_trials
        packs = proposer.packs(alike, count)
        if proposer.entry.blind:
            return proposer.each(number, count, packs)
        seen = proposer.ledger.seen(session, study)
        if not proposer.entry.slow or packs:
            self._count()
            return proposer.proposals(seen, proposer.ask(number, count), packs)
        finished = int((~seen.pending).sum())
        if not (found := self._spares.fresh(count, finished, study)):
            self._count()
            made = proposer.proposals(seen, proposer.ask(number, count + SPARES))
            found = made[:count]
            self._spares.put(made[count:], finished)
        return found

    def nothing_to_gain(self, session: ReadSession, study: Study) -> protocol.Gain | None:
        """What is left to gain, where the budget asks to end by it and it is within the noise."""
        budget = budgets.of(study)
        if budget is None or not budget.no_gain:
            return None
        seen = self._current(study).ledger.seen(session, study)
        finished = int((~seen.pending).sum())
        if self._gain is None or self._gain[0] != finished:
            self._gain = finished, gain.of(session, study, seen)
        found = self._gain[1]
        return found if found is not None and found.expected <= found.noise else None

    def spare(self, study: Study) -> Proposal | None:
        """A trial that was prepared, whatever has arrived since; takes no turn."""
        return self._spares.stale(study)

    def complete(self, session: ReadSession, study: Study, trial: Trial) -> Proposal:
        """All parameters of a waiting trial: the fixed ones kept, the others sampled."""
        proposer, number = self._current(study), trial.number or 0
        # Optuna enqueues anything: what the space does not have is not evaluated.
        fixed = proposer.possible(trial.system_attrs.get("fixed_params", {}) | trial.params)
        if space.is_complete(proposer.cube.space, fixed):
            return proposer.proposal(number, Suggestion(proposer.ordered(fixed)))
        seen = proposer.ledger.seen(session, study)
        self._count()
        return proposer.proposals(seen, proposer.ask(number, fixed=fixed))[0]

    def _current(self, study: Study) -> Proposer:
        if self._proposer is None or self._proposer.revision != study.revision:
            self._proposer, self._spares, self._gain = Proposer(study), _Spares(), None
        return self._proposer


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
