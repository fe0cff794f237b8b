"""Which search rows are the best so far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from hpo_service import catalog
from hpo_service.tables import Study, Trial

Losses = tuple[float, ...]
# Losses, what breaks ties, number, id: sorts the better and older first.
Candidate = tuple[Losses, float, int, int]


def best(session: Session, study: Study) -> list[Trial]:
    """The best completed search row, or the Pareto set by number where there are several values.

    Equal single values: the lower log loss, where it was recorded, then the lower number. Pruned
    rows, and values that are not a number, never count. Empty where nothing has completed.
    """
    front = _undominated(_candidates(session, study))
    ids = [trial_id for *_, trial_id in front]
    if len(study.directions) == 1:
        ids = ids[:1]
    trials = session.scalars(select(Trial).where(Trial.id.in_(ids)).order_by(Trial.number))
    return list(trials)


def first(session: Session, study: Study, count: int) -> list[Trial]:
    """The best completed search rows by their (first) value, the best first."""
    ids = [trial_id for *_, trial_id in _candidates(session, study)[:count]]
    trials = {t.id: t for t in session.scalars(select(Trial).where(Trial.id.in_(ids)))}
    return [trials[trial_id] for trial_id in ids]


def _candidates(session: Session, study: Study) -> list[Candidate]:
    rows = session.execute(
        select(Trial.id, Trial.number, Trial.values, Trial.metrics).where(
            Trial.study_id == study.id, Trial.kind == "search", Trial.state == "complete"
        )
    )
    return sorted(
        (losses(values, study.directions), tie_breaker(metrics), number or 0, trial_id)
        for trial_id, number, values, metrics in rows
        if comparable(values, study.directions)
    )


def comparable(values: Sequence[float | None] | None, directions: Sequence[str]) -> bool:
    """Whether a row has all its values, each a number."""
    if not values or len(values) != len(directions):
        return False
    return all(value is not None and not math.isnan(value) for value in values)


def losses(values: Sequence[float] | None, directions: Sequence[str]) -> Losses:
    """The values turned so that less is better."""
    return tuple(
        -value if direction == "maximize" else value
        for value, direction in zip(values or (), directions, strict=True)
    )


def tie_breaker(metrics: Mapping[str, float | None]) -> float:
    """The log loss, which workers record wherever accuracy is optimised; without one, the last."""
    recorded = metrics.get(catalog.TIE_BREAKER)
    return math.inf if recorded is None or math.isnan(recorded) else recorded


def _undominated(found: Iterable[Candidate]) -> list[Candidate]:
    """Those of the sorted candidates that no other is as good as everywhere and better somewhere.

    In this order only an earlier one can dominate a later one.
    """
    front: list[Candidate] = []
    for candidate in found:
        if not any(_dominates(other[0], candidate[0]) for other in front):
            front.append(candidate)
    return front


def _dominates(one: Losses, other: Losses) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
