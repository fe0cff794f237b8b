"""The result of a study: its winner, what a final row refits, and all scores side by side."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import JsonValue
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hpo_service import catalog, curves, protocol, seeds
from hpo_service.tables import Attempt, Report, Study, Trial

FinalState = Literal["none", "waiting", "running", "complete", "fail"]
Losses = tuple[float, ...]
Folds = list[list[float | None]]
Candidate = tuple[Losses, int, int]  # losses, number, id: sorts the better and older first

WINNER = "winner"
# The interval of an accuracy near 0.9 from fewer rows is wider than +-0.06.
FEW_ROWS = 100


def best(session: Session, study: Study) -> list[Trial]:
    """The best completed search row, or the Pareto set by number where there are several values.

    Equal single values: the lower number. Pruned rows, and values that are not a number, never
    count. Empty where nothing has completed.
    """
    rows = session.execute(
        select(Trial.id, Trial.number, Trial.values).where(
            Trial.study_id == study.id, Trial.kind == "search", Trial.state == "complete"
        )
    )
    found = [
        (_losses(values, study.directions), number or 0, trial_id)
        for trial_id, number, values in rows
        if _comparable(values, study.directions)
    ]
    ids = [trial_id for _, _, trial_id in _undominated(sorted(found))]
    if len(study.directions) == 1:
        ids = ids[:1]
    trials = session.scalars(select(Trial).where(Trial.id.in_(ids)).order_by(Trial.number))
    return list(trials)


def winner(session: Session, study: Study) -> Trial | None:
    """The best completed search row; of a Pareto set, the best by its first value.

    None where nothing has completed.
    """
    found = best(session, study)
    return min(found, key=lambda t: _losses(t.values, study.directions), default=None)


def refits(session: Session, study: Study) -> list[protocol.ModelSetting]:
    """What the final row fits on the whole search part: the winner, then completed baselines."""
    first = winner(session, study)
    objective = _objective(study)
    if first is None or objective is None:
        return []
    settings = [
        protocol.ModelSetting(
            name=WINNER,
            model=objective.model,
            params=objective.params | first.params,
            epochs=first.epoch,
            seed=seeds.trial_seed(study.seed, first.number or 0),
            values=first.values or [],
            notes=_told_notes(session, first),
        )
    ]
    return settings + [
        protocol.ModelSetting(
            name=row.model or "",
            model=row.model or "",
            params=row.params,
            epochs=row.epoch,
            seed=seeds.baseline_seed(study.seed, row.model or ""),
            values=row.values or [],
        )
        for row in _rows(session, study, "baseline")
        if row.state == "complete"
    ]


def _told_notes(session: Session, row: Trial) -> dict[str, JsonValue]:
    """What the attempt that ended the trial noted."""
    notes: dict[str, JsonValue] | None = session.scalar(
        select(Attempt.notes).where(Attempt.trial_id == row.id, Attempt.outcome == "told")
    )
    return notes or {}


def result(session: Session, study: Study) -> protocol.Final:
    """The winner and the baselines as far as the study has come, with notes in plain language.

    Held-out scores are there once the final row is complete.
    """
    objective = _objective(study)
    last = next(iter(_rows(session, study, "final")), None)
    told = last.estimates if last is not None and last.state == "complete" else []
    estimates = [protocol.Estimate.model_validate(estimate) for estimate in told]
    best_row, baselines = winner(session, study), _rows(session, study, "baseline")
    rows = [*baselines, best_row] if best_row else baselines
    points = curves.load(session, [row.id for row in rows])
    scored = [_scored(row, objective, points.get(row.id, []), estimates) for row in rows]
    first = scored.pop() if best_row else None
    return protocol.Final(
        state=_state(last),
        metrics=(objective.metrics if objective else None) or [],
        winner=first,
        baselines=scored,
        notes=_notes(study, objective, first, _compared(session, study)),
        error=_error(last),
    )


def _compared(session: Session, study: Study) -> int:
    """How many search rows had their say: the winner was the best of so many."""
    return (
        session.scalar(
            select(func.count()).where(
                Trial.study_id == study.id,
                Trial.kind == "search",
                Trial.state.in_(("complete", "pruned")),
            )
        )
        or 0
    )


def _comparable(values: Sequence[float | None] | None, directions: Sequence[str]) -> bool:
    if not values or len(values) != len(directions):
        return False
    return all(value is not None and not math.isnan(value) for value in values)


def _losses(values: Sequence[float] | None, directions: Sequence[str]) -> Losses:
    """The values turned so that less is better."""
    return tuple(
        -value if direction == "maximize" else value
        for value, direction in zip(values or (), directions, strict=True)
    )


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


def _objective(study: Study) -> protocol.TrainObjective | None:
    if study.spec is None:
        return None
    objective = protocol.StudySpec.model_validate(study.spec).objective
    return objective if isinstance(objective, protocol.TrainObjective) else None


def _rows(session: Session, study: Study, kind: protocol.TrialKind) -> list[Trial]:
    query = select(Trial).where(Trial.study_id == study.id, Trial.kind == kind)
    return list(session.scalars(query.order_by(Trial.id)))


def _scored(
    row: Trial,
    objective: protocol.TrainObjective | None,
    curve: Sequence[Report],
    estimates: Sequence[protocol.Estimate],
) -> protocol.Scored:
    model = row.model or (objective.model if objective else "")
    name = WINNER if row.kind == "search" else model
    fixed = objective.params if objective and row.kind == "search" else {}
    folds: Folds = next((point.folds for point in curve if point.step == row.epoch), [])
    return protocol.Scored(
        name=name,
        model=model,
        params=fixed | row.params,
        number=row.number,
        epoch=row.epoch,
        values=_finite(row.values) if row.state == "complete" else None,
        folds=folds,
        spread=_spread(folds),
        held_out=[estimate for estimate in estimates if estimate.name == name],
    )


def _finite(values: list[float] | None) -> list[float] | None:
    """JSON bodies hold no Infinity, which an Optuna client may have stored."""
    return values if values and all(map(math.isfinite, values)) else None


def _spread(folds: Folds) -> list[float]:
    """Standard deviation over the folds of each metric; empty where one cannot be computed."""
    known = [[value for value in values if value is not None] for values in folds]
    if any(len(values) < 2 for values in known):
        return []
    return [statistics.stdev(values) for values in known]


def _state(last: Trial | None) -> FinalState:
    if last is None:
        return "none"
    states: dict[str, FinalState] = {s: s for s in ("waiting", "running", "complete")}
    return states.get(last.state, "fail")


def _error(last: Trial | None) -> protocol.TrialError | None:
    if last is None or last.error_reason is None:
        return None
    return protocol.TrialError(reason=last.error_reason, message=last.error_message or "")


# --- notes: what a reader of the numbers should know --------------------------------------------


def _notes(
    study: Study,
    objective: protocol.TrainObjective | None,
    first: protocol.Scored | None,
    compared: int,
) -> list[str]:
    if first is None:
        return ["No trial has completed, so there is no winner."]
    notes = []
    if len(study.directions) > 1:
        notes.append(
            "Several metrics are optimised: of the trials that no other one beats, the winner "
            "is the best by the first metric."
        )
    if objective is None:
        return notes
    notes.append(_optimism(objective, first, compared))
    if first.spread:
        notes.append(
            "The spread is the standard deviation over the folds: how much scores differ from "
            "fold to fold, not an interval for the true score."
        )
    return [*notes, *_about_held_out(objective, first)]


def _optimism(objective: protocol.TrainObjective, first: protocol.Scored, compared: int) -> str:
    note = (
        "The winner's cross-validated score is optimistic: it was chosen as the best of "
        f"{compared} trials on these very folds."
    )
    if not _epoch_was_chosen(objective, first):
        return note
    return (
        f"{note} So was its epoch, {first.epoch}, one for all folds: that alone adds about 0.02 "
        "to an accuracy on 200 rows (measured; 0.06 if each fold kept its own best epoch)."
    )


def _epoch_was_chosen(objective: protocol.TrainObjective, first: protocol.Scored) -> bool:
    family = catalog.FAMILIES.get(objective.model)
    if family is None or not family.network:
        return False
    return getattr(catalog.settings_of(family, first.params), "patience", 0) > 0


def _about_held_out(objective: protocol.TrainObjective, first: protocol.Scored) -> list[str]:
    if objective.holdout == 0:
        return [
            'No rows were held out ("holdout": 0), so there is no score on rows that the search '
            "never saw."
        ]
    if not first.held_out:
        return []
    rows = first.held_out[0].rows
    note = (
        f"The held-out scores come from {rows:,} rows that no search worker was sent: refitted "
        "on all other rows, each model was scored on them once."
    )
    return [f"{note} So few rows leave wide intervals."] if rows < FEW_ROWS else [note]
