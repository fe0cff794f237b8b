"""Finding trials: by number, by page."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from hpo_service import errors, protocol
from hpo_service.tables import Trial

Sort = Literal["number", "value", "state", "started_at", "ended_at"]
COLUMNS = {
    "number": Trial.number,
    "state": Trial.state,
    "started_at": Trial.started_at,
    "ended_at": Trial.ended_at,
}


def get(session: Session, study_id: int, number: int) -> Trial:
    """The search row of this number; `NotFound` otherwise."""
    row = session.scalar(select(Trial).where(Trial.study_id == study_id, Trial.number == number))
    if row is None:
        raise errors.NotFound(f"There is no trial {number} in this study.")
    return row


def page(
    session: Session,
    study_id: int,
    kind: protocol.TrialKind,
    states: list[protocol.TrialState] | None,
    sort: Sort,
    descending: bool,
    limit: int,
    after: int,
) -> tuple[list[Trial], bool]:
    """Up to `limit` rows after the first `after`, and whether there are more; unset ones last."""
    query = select(Trial).where(Trial.study_id == study_id, Trial.kind == kind)
    if states:
        query = query.where(Trial.state.in_(states))
    if sort == "value":
        return _by_value(session, query, descending, limit, after)
    column = COLUMNS[sort]
    ordered = query.order_by(
        column.is_(None), column.desc() if descending else column.asc(), Trial.id
    )
    rows = list(session.scalars(ordered.offset(after).limit(limit + 1)))
    return rows[:limit], len(rows) > limit


def _by_value(
    session: Session, query: Select[Trial], descending: bool, limit: int, after: int
) -> tuple[list[Trial], bool]:
    # Values are JSON text, the same on both databases, so the order is made here.
    found = session.execute(query.with_only_columns(Trial.id, Trial.values)).all()
    known = [(values[0], -i if descending else i) for i, values in found if values]
    ranked = [abs(i) for _, i in sorted(known, reverse=descending)]
    ids = [*ranked, *(i for i, values in found if not values)]
    wanted = ids[after : after + limit]
    rows = {row.id: row for row in session.scalars(select(Trial).where(Trial.id.in_(wanted)))}
    return [rows[i] for i in wanted], len(ids) > after + limit
