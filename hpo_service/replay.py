"""A search made again: each trial's proposal, from what it depended on when it was made.

Workers that run side by side end their trials in an order that nobody can repeat. What each
proposal knew of it is stored with the trial, and so the proposals can be checked one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hpo_service import protocol, space
from hpo_service.proposing import Basis, Proposer
from hpo_service.seen import Seen
from hpo_service.tables import Study, Trial

Params = Mapping[str, protocol.ParamValue]


def replay(session: Session, study: Study, first: int, count: int) -> protocol.Replay:
    """Propose the `count` search trials from number `first` on again, beside what they have.

    `WrongState` for a study that an Optuna client made: its sampler is not here.
    """
    rows = session.execute(
        select(Trial.number, Trial.params, Trial.system_attrs)
        .where(Trial.study_id == study.id, Trial.kind == "search", Trial.number >= first)
        .order_by(Trial.number)
        .limit(count)
    ).all()
    again = _Again(session, study)
    trials = [again.trial(row.number or 0, row.params, row.system_attrs) for row in rows]
    more = first + count < study.n_trials
    return protocol.Replay(trials=trials, next=first + count if more else None)


class _Again:
    """Makes proposals anew; those of one answer together."""

    def __init__(self, session: Session, study: Study) -> None:
        self.proposer = Proposer(study)
        self.seen = self.proposer.ledger.seen(session, study)
        self._last: tuple[Basis, list[Params]] | None = None

    def trial(self, number: int, params: Params, attrs: Mapping[str, Any]) -> protocol.Replayed:
        """One trial beside its replay."""
        fixed = self.proposer.possible(attrs.get("fixed_params", {}))
        searched = self.proposer.cube.space
        waits = not space.is_complete(searched, params)  # for its other parameters
        if waits or space.is_complete(searched, fixed):
            return protocol.Replayed(number=number, outcome="given", params=dict(params))
        found = self._proposed(number, fixed, attrs)
        if found is None:
            return protocol.Replayed(number=number, outcome="unknown", params=dict(params))
        outcome: protocol.ReplayOutcome = "same" if found == params else "other"
        return protocol.Replayed(
            number=number, outcome=outcome, params=dict(params), replayed=dict(found)
        )

    def _proposed(self, number: int, fixed: Params, attrs: Mapping[str, Any]) -> Params | None:
        noted = Basis.read(attrs)
        if noted is None and not self.proposer.entry.blind:
            return None
        basis, place = noted or (Basis(number), 0)
        made = self._made(basis, fixed)
        return made[place] if place < len(made) else {}

    def _made(self, basis: Basis, fixed: Params) -> list[Params]:
        if fixed or self._last is None or self._last[0] != basis:
            ask = self.proposer.ask(basis.number, basis.count, dict(fixed))
            # A sampler that has seen later results would have to forget them.
            sampler = self.proposer.fresh()
            found = self.proposer.suggestions(sampler, self._known(basis), ask, basis.packs)
            self._last = basis, [each.params for each in found]
        return self._last[1]

    def _known(self, basis: Basis) -> Seen:
        """The study as it was for that answer."""
        attrs: Sequence[Mapping[str, Any]] = self.seen.attrs
        fixed = [self.proposer.possible(attrs[n].get("fixed_params", {})) for n in basis.open_]
        rows = dict(zip(basis.open_, self.proposer.cube.rows(fixed), strict=True))
        return self.seen.as_it_was(basis.seen, basis.pending, basis.waiting, rows)
