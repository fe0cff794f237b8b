"""From a question to proposals: one study's sampler, what it is shown, and what its answers
depended on.

The study's rows alone decide the answer: what is kept here is derived from them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from optuna.distributions import distribution_to_json

from hpo_service import catalog, errors, protocol, space
from hpo_service.constraints import cube_of
from hpo_service.ledger import Ledger
from hpo_service.samplers import SAMPLERS, Ask, Sampler, Suggestion
from hpo_service.samplers.independent import RandomSampler
from hpo_service.seen import BASIS, CODES, Seen, nothing
from hpo_service.tables import Study

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


@dataclass(frozen=True)
class Packs:
    """So many trials in a row have the same values of these parameters; false: no matter."""

    size: int = 0
    alike: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.size > 1 and bool(self.alike)


FREE = Packs()


@dataclass(frozen=True)
class Basis:
    """What a proposal depended on, beside the study's spec and seed.

    It was one of `count` trials, from `number` on, in packs of a `size` that are `alike`.
    Trials below `seen` were known: those in `pending` had not ended, those in `waiting` were not
    running either, and of those in `open_` only what their authors had fixed was known.
    """

    number: int
    count: int = 1
    seen: int = 0
    pending: tuple[int, ...] = ()
    waiting: tuple[int, ...] = ()
    open_: tuple[int, ...] = ()
    size: int = 0
    alike: tuple[str, ...] = ()

    @classmethod
    def of(cls, seen: Seen, ask: Ask, packs: Packs) -> Basis:
        """Of an answer to `ask` by a sampler that is shown `seen`."""
        pending = np.flatnonzero(seen.pending)
        waiting = pending[seen.states[pending] == CODES["waiting"]]
        open_ = waiting[~seen.legal[waiting]]
        return cls(
            number=ask.number,
            count=ask.count,
            seen=len(seen),
            pending=tuple(pending.tolist()),
            waiting=tuple(waiting.tolist()),
            open_=tuple(open_.tolist()),
            **vars(packs),
        )

    @property
    def packs(self) -> Packs:
        """What was asked for."""
        return Packs(self.size, self.alike)

    @classmethod
    def read(cls, attrs: Mapping[str, Any]) -> tuple[Basis, int] | None:
        """What a trial notes, and its place among the trials of that answer; None: nothing."""
        if BASIS not in attrs:
            return None
        noted = dict(attrs[BASIS])
        place: int = noted.pop("place", 0)
        given: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in noted.items()
        }
        return cls(**given), place

    def note(self, place: int) -> dict[str, Any]:
        """As it is stored: what says nothing is left out, since each trial has such a note."""
        said = {name: value for name, value in vars(self).items() if value or name == "number"}
        return said | ({"place": place} if place else {})


class Proposer:
    """What is kept of a study's search, as long as nothing finished is edited."""

    def __init__(self, study: Study) -> None:
        self.revision, self.seed = study.revision, study.seed
        spec = None if study.spec is None else protocol.StudySpec.model_validate(study.spec)
        if spec is None or spec.search_space is None:
            raise errors.WrongState(
                "This study has no search space of its own: use its Optuna client."
            )
        self.spec, self.study_name = spec, study.name
        self._alike = _alike(spec)
        self.cube = cube_of(spec)
        self.entry = SAMPLERS[spec.sampler.name]
        self.sampler = self.fresh()
        self.ledger = Ledger(study, self.cube)
        self._nothing = nothing(self.cube, len(study.directions))
        self._json = {n: distribution_to_json(d) for n, d in self.cube.distributions.items()}

    def fresh(self) -> Sampler:
        """The study's sampler, that has seen nothing yet."""
        return self.entry.make(self.cube, self.spec.sampler.options)

    def packs(self, size: int, count: int) -> Packs:
        """Of `count` trials packs of this size that can be trained in one pass, where the family
        tells which can.
        """
        return Packs(size, self._alike) if size > 1 and count > 1 and self._alike else FREE

    def each(self, number: int, count: int, packs: Packs) -> list[Proposal]:
        """Trials from `number` on that depend on no other one, each from a seed of its own."""
        if packs:
            return self.proposals(self._nothing, self.ask(number, count), packs)
        found: list[Proposal] = []
        for at in range(number, number + count):
            found += self.proposals(self._nothing, self.ask(at))
        return found

    def ask(self, number: int, count: int = 1, fixed: space.Params | None = None) -> Ask:
        """A question that no other one shares its randomness with."""
        return Ask(number, self.entry.seed(self.seed, number), count=count, fixed=fixed or {})

    def proposals(self, known: Seen, ask: Ask, packs: Packs = FREE) -> list[Proposal]:
        """What the sampler suggests, as trials to insert from `ask.number` on."""
        found = self.suggestions(self.sampler, known, ask, packs)
        if not self.entry.blind or packs:
            basis = Basis.of(known, ask, packs)
            found = [
                replace(each, attrs={**each.attrs, BASIS: basis.note(place)})
                for place, each in enumerate(found)
            ]
        return [self.proposal(ask.number + at, each) for at, each in enumerate(found)]

    def suggestions(
        self, sampler: Sampler, known: Seen, ask: Ask, packs: Packs = FREE
    ) -> list[Suggestion]:
        """What a sampler suggests, random where it fails; pack by pack, as if those before ran."""
        if not packs:
            return self._suggested(sampler, known, ask)
        found: list[Suggestion] = []
        while len(found) < ask.count:
            size = min(packs.size, ask.count - len(found))
            asked = self.ask(ask.number + len(found), size, ask.fixed)
            some = self._pack(sampler, known, asked, packs.alike)
            if not some:
                break
            found += some
            known = self._with_running(known, some)
        return found

    def _pack(
        self, sampler: Sampler, known: Seen, ask: Ask, alike: Collection[str]
    ) -> list[Suggestion]:
        """One trial, and others that are alike, for which it is known to run."""
        found = self._suggested(sampler, known, replace(ask, count=1))
        if not found or ask.count == 1:
            return found
        shared = {name: value for name, value in found[0].params.items() if name in alike}
        others = self.ask(ask.number + 1, ask.count - 1, {**ask.fixed, **shared})
        return found + self._suggested(sampler, self._with_running(known, found), others)

    def _with_running(self, known: Seen, some: Sequence[Suggestion]) -> Seen:
        return known.with_running(self.cube.rows([each.params for each in some]))

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

    def possible(self, params: space.Params) -> dict[str, protocol.ParamValue]:
        """Of what somebody else has fixed, what the space has."""
        searched = self.cube.space
        return {
            name: value
            for name, value in params.items()
            if name in searched and space.possible(searched[name], value)
        }

    def _suggested(self, sampler: Sampler, known: Seen, ask: Ask) -> list[Suggestion]:
        try:
            return sampler.propose(known, ask)
        except Exception as error:  # numerical failures have many names, and the search goes on
            log.exception(
                "The sampler failed: trial %d of %r is random.", ask.number, self.study_name
            )
            note = {"sampler_error": f"{type(error).__name__}: {error}"}
            found = RandomSampler(self.cube).propose(known, ask)
            return [replace(each, attrs=note) for each in found]


def _alike(spec: protocol.StudySpec) -> tuple[str, ...]:
    """The searched parameters that networks of one pass have in common, where that is known."""
    if not isinstance(spec.objective, protocol.TrainObjective):
        return ()
    alike = catalog.FAMILIES[spec.objective.model].alike
    return tuple(name for name in spec.search_space or {} if catalog.plain(name) in alike)
