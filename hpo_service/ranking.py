"""Which search rows are the best so far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from hpo_service import catalog
from hpo_service.tables import Study, Trial, as_stored, decoded

Losses = tuple[float, ...]


@dataclass(frozen=True)
class _Ranked:
    """Completed search rows from better to worse, the older of equals first.

    `losses` (rows, metrics) and `ids` (rows,).
    """

    losses: NDArray[np.float64]
    ids: NDArray[np.int64]


def best(session: Session, study: Study) -> list[Trial]:
    """The best completed search row, or the Pareto set by number where there are several values.

    Equal single values: the lower log loss, where it was recorded, then the lower number. Pruned
    rows, and values that are not a number, never count. Empty where nothing has completed.
    """
    ranked = _ranked(session, study)
    front = _undominated(ranked.losses) if len(study.directions) > 1 else slice(1)
    ids = ranked.ids[front].tolist()
    trials = session.scalars(select(Trial).where(Trial.id.in_(ids)).order_by(Trial.number))
    return list(trials)


def first(session: Session, study: Study, count: int) -> list[Trial]:
    """The best completed search rows by their (first) value, the best first."""
    ids = _ranked(session, study).ids[:count].tolist()
    trials = {t.id: t for t in session.scalars(select(Trial).where(Trial.id.in_(ids)))}
    return [trials[trial_id] for trial_id in ids]


def _ranked(session: Session, study: Study) -> _Ranked:
    columns = Trial.__table__.c
    rows = session.execute(
        select(columns.id, columns.number, *as_stored(columns["values"], columns.metrics)).where(
            columns.study_id == study.id, columns.kind == "search", columns.state == "complete"
        )
    ).all()
    values = decoded(row.values for row in rows)
    at = [place for place, each in enumerate(values) if comparable(each, study.directions)]
    signs = [-1.0 if direction == "maximize" else 1.0 for direction in study.directions]
    losses = np.array([values[place] for place in at], dtype=float).reshape(-1, len(signs)) * signs
    ties = [tie_breaker(each) for each in decoded(rows[place].metrics for place in at)]
    ids = np.array([rows[place].id for place in at], dtype=np.int64)
    numbers = [rows[place].number for place in at]
    order = np.lexsort((ids, numbers, ties, *losses.T[::-1]))
    return _Ranked(losses[order], ids[order])


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


def _undominated(losses: NDArray[np.float64]) -> list[int]:
    """Those of the sorted rows that no other is as good as everywhere and better somewhere.

    In this order only an earlier one can dominate a later one.
    """
    front = np.empty((0, losses.shape[1]))
    found = []
    for place, row in enumerate(losses):
        as_good = front[(front <= row).all(1)]
        if (as_good == row).all():  # none, or equals
            front = np.vstack([front, row])
            found.append(place)
    return found
