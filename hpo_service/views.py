"""From rows of the tables to what the API shows."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hpo_service import budgets, curves, protocol, ranking, studies
from hpo_service.constraints import cube_of
from hpo_service.samplers import picks
from hpo_service.tables import Attempt, Report, Study, Trial

# A cell that begins like this would be run by a spreadsheet (OWASP ASVS 1.2.10).
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\0")


def study(session: Session, now: datetime, row: Study) -> protocol.Study:
    """One study, with what it has spent so far."""
    shown = many_studies(session, [row])[0]
    found = {"spent": budgets.spent(session, now, row), "sampling": _sampling(shown)}
    return shown.model_copy(update=found)


def _sampling(shown: protocol.Study) -> list[protocol.Sampling]:
    """What `auto` picks for the trials that the budget allows."""
    spec = shown.spec
    if spec is None or spec.search_space is None or spec.sampler.name != "auto":
        return []
    return [
        protocol.Sampling(first=pick.first, samplers=list(pick.samplers), reason=pick.reason)
        for pick in picks(cube_of(spec), len(shown.directions))
        if shown.budget_trials is None or pick.first < shown.budget_trials
    ]


def many_studies(session: Session, rows: Sequence[Study]) -> list[protocol.Study]:
    counts = studies.counts(session, [row.id for row in rows])
    return [
        protocol.Study(
            id=row.id,
            name=row.name,
            state=row.state,
            ended_by=row.ended_by,
            directions=row.directions,
            gain=row.system_attrs.get(studies.GAIN),
            n_trials=row.n_trials,
            budget_trials=row.budget_trials,
            counts=counts[row.id],
            best=best(session, row),
            spec=studies.spec_of(row),
            seed=row.seed,
            created_at=row.created_at,
            ended_at=row.ended_at,
        )
        for row in rows
    ]


def best(session: Session, row: Study) -> list[protocol.Best]:
    """The best completed trials with each fold's value at their common epoch."""
    trials = ranking.best(session, row)
    points = curves.load(session, [t.id for t in trials])
    return [
        protocol.Best(
            number=trial.number if trial.number is not None else -1,
            values=trial.values or [],
            params=trial.params,
            epoch=trial.epoch,
            folds=curves.folds_at(points.get(trial.id, []), trial.epoch) or None,
        )
        for trial in trials
    ]


def many_trials(session: Session, rows: Sequence[Trial]) -> list[protocol.Trial]:
    # The newest attempt of each: later ones come last.
    attempts = {
        a.trial_id: a
        for a in session.scalars(
            select(Attempt)
            .where(Attempt.trial_id.in_([r.id for r in rows]))
            .order_by(Attempt.attempt)
        )
    }
    return [trial(row, attempts.get(row.id)) for row in rows]


def trial(row: Trial, attempt: Attempt | None = None) -> protocol.Trial:
    error = None
    if row.error_reason is not None:
        error = protocol.TrialError(
            reason=row.error_reason, message=(row.error_message or "")[:4000]
        )
    return protocol.Trial(
        id=row.id,
        number=row.number,
        kind=row.kind,
        state=row.state,
        params=row.params,
        values=_finite(row.values),
        metrics=row.metrics,
        epoch=row.epoch,
        error=error,
        attempts=row.attempt,
        lost=row.lost,
        worker=attempt.worker if attempt else None,
        notes=(attempt.notes or {}) if attempt else {},
        model=row.model,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )


def _finite(values: list[float] | None) -> list[float] | None:
    """JSON bodies hold no Infinity, which an Optuna client may have stored."""
    if values is None or not all(math.isfinite(v) for v in values):
        return None
    return values


def point(row: Report) -> protocol.Point:
    return protocol.Point(
        step=row.step,
        attempt=row.attempt,
        values=[v if v is not None and math.isfinite(v) else None for v in row.values],
        folds=row.folds,
        train_folds=row.train_folds,
        metrics=row.metrics,
        action=row.action,
    )


def trials_csv(rows: Iterable[Trial]) -> str:
    """All search rows as CSV: numbers stay numbers, text that looks like a formula is quoted."""
    listed = list(rows)
    names = sorted({name for row in listed for name in row.params})
    metrics = sorted({name for row in listed for name in row.metrics})
    width = max((len(row.values or []) for row in listed), default=1)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["number", "state", *(f"value_{i}" for i in range(width)), "epoch"]
        + [_cell(f"param_{n}") for n in names]
        + [_cell(f"metric_{m}") for m in metrics]
        + ["attempts", "started_at", "ended_at", "error"]
    )
    for row in listed:
        values = [*(row.values or []), *[None] * width][:width]
        writer.writerow(
            [row.number, row.state, *values, row.epoch]
            + [_cell(row.params.get(n)) for n in names]
            + [_cell(row.metrics.get(m)) for m in metrics]
            + [row.attempt, row.started_at, row.ended_at, _cell(row.error_message)]
        )
    return buffer.getvalue()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value
