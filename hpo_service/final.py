"""The result of a study: its winner, what a final row refits, and all scores side by side."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import JsonValue
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hpo_service import confirm, curves, notes, protocol, ranking, seeds, selection
from hpo_service.tables import Attempt, Report, Study, Trial

FinalState = Literal["none", "waiting", "running", "complete", "fail"]
Folds = list[list[float | None]]

WINNER, SERVED = "winner", "served"
# Of an ensemble. More add little: the next best are worse, and much like the others.
MOST_MEMBERS = 10
# Trials worse than so many others are not within a standard error of the best.
MOST_COMPARED = 200


def winner(session: Session, study: Study) -> Trial | None:
    """The trial that did best on fresh folds; before that, or without, the best of the search; or
    the one that the study's rule selects.

    Of a Pareto set, the best by its first value. None where nothing has completed.
    """
    if _simplest_wins(study):
        return _simplest(session, study)
    found = confirm.chosen(session, study)
    return found or next(iter(ranking.first(session, study, 1)), None)


def _simplest_wins(study: Study) -> bool:
    return (study.spec or {}).get("select") == "one_standard_error"


def _simplest(session: Session, study: Study) -> Trial | None:
    """The smallest network that is as good as the best, as far as the folds can tell."""
    objective, trials = confirm.objective_of(study), ranking.first(session, study, MOST_COMPARED)
    if objective is None or not trials:
        return None
    points = curves.load(session, [trial.id for trial in trials])
    known = {
        trial.number: (trial, folds[0])
        for trial in trials
        if (folds := curves.folds_at(points.get(trial.id, []), trial.epoch))
        and None not in folds[0]
        and trial.metrics.get(selection.SIZE) is not None
    }
    candidates = [
        selection.Candidate(
            number=trial.number or 0,
            value=trial.values[0] if trial.values else 0.0,
            folds=[value for value in folds if value is not None],
            parameters=round(trial.metrics[selection.SIZE]),
        )
        for trial, folds in known.values()
    ]
    if not candidates:
        return trials[0]
    share = objective.validation.scored_share
    chosen = selection.one_standard_error(
        candidates, study.directions[0], n_train=1 - share, n_valid=share
    )
    return known[chosen.number][0]


def refits(session: Session, study: Study) -> list[protocol.ModelSetting]:
    """What the final row fits on the whole search part: the winner, then completed baselines."""
    first = winner(session, study)
    objective = confirm.objective_of(study)
    if first is None or objective is None:
        return []
    return [_setting(session, study, objective, WINNER, first)] + [
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


def members(session: Session, study: Study) -> list[protocol.ModelSetting]:
    """What an ensemble may be made of: the best trials of the search, the best first."""
    objective = confirm.objective_of(study)
    if objective is None:
        return []
    return [
        _setting(session, study, objective, f"trial {trial.number}", trial)
        for trial in ranking.first(session, study, MOST_MEMBERS)
    ]


def _setting(
    session: Session, study: Study, objective: protocol.TrainObjective, name: str, trial: Trial
) -> protocol.ModelSetting:
    """A search trial, as it is refitted."""
    return protocol.ModelSetting(
        name=name,
        model=objective.model,
        params=objective.params | trial.params,
        epochs=trial.epoch,
        seed=seeds.trial_seed(study.seed, trial.number or 0),
        number=trial.number,
        values=trial.values or [],
        notes=_told_notes(session, trial),
    )


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
    objective = confirm.objective_of(study)
    last = next(iter(_rows(session, study, "final")), None)
    told = last.estimates if last is not None and last.state == "complete" else []
    estimates = [protocol.Estimate.model_validate(estimate) for estimate in told]
    best_row, baselines = winner(session, study), _rows(session, study, "baseline")
    found, of_baselines = confirm.confirmed(session, study), confirm.of_baselines(session, study)
    fresh = {each.trial.id: each.row for each in found}
    fresh |= {row.id: of_baselines[row.model] for row in baselines if row.model in of_baselines}
    rows = {row.id: row for row in [*baselines, *(each.trial for each in found)]}
    if best_row is not None:
        rows[best_row.id] = best_row
    points = curves.load(session, [*rows, *(row.id for row in fresh.values())])
    scored = {
        row.id: _scored(row, objective, points, fresh.get(row.id), estimates)
        for row in rows.values()
    }
    first = scored[best_row.id] if best_row else None
    judged = _judged(session, last)
    made = protocol.Final(
        state=_state(last),
        metrics=(objective.metrics if objective else None) or [],
        winner=first,
        confirmed=[
            scored[each.trial.id] if each.trial is best_row else _unnamed(scored[each.trial.id])
            for each in found
        ],
        baselines=[scored[row.id] for row in baselines],
        estimate=_headline(estimates),
        verdict=judged.verdict,
        ensemble=judged.ensemble,
        served=_served(judged, estimates),
        held_out_uses=_held_out_uses(session, study),
        notes=[],
        error=_error(last),
    )
    said = notes.notes(made, study.directions, objective, _compared(session, study))
    if best_row is not None:
        said += notes.about_pooled(_told_notes(session, best_row))
    if _simplest_wins(study) and best_row is not None:
        (best,) = ranking.first(session, study, 1)
        said += notes.about_selection(best.number, (best.values or [0.0])[0], best_row.number)
    return made.model_copy(update={"notes": said})


def _headline(estimates: Sequence[protocol.Estimate]) -> protocol.Estimate | None:
    """What is served is worth: its score on held-out rows, else the search's choice corrected."""
    known = [each for each in estimates if each.name in (WINNER, SERVED)]
    order = [(SERVED, "held_out"), (WINNER, "held_out"), (WINNER, "bootstrap_cv")]
    return min(known, key=lambda each: order.index((each.name, each.kind)), default=None)


def _served(
    judged: protocol.Judged, estimates: Sequence[protocol.Estimate]
) -> protocol.Served | None:
    if judged.served is None:
        return None
    held_out = [each for each in estimates if each.name == SERVED]
    return judged.served.model_copy(update={"held_out": held_out})


def _judged(session: Session, last: Trial | None) -> protocol.Judged:
    """What the final row's attempt noted, once it has ended well."""
    if last is None or last.state != "complete":
        return protocol.Judged()
    known = {
        name: found
        for name, found in _told_notes(session, last).items()
        if name in protocol.Judged.model_fields
    }
    return protocol.Judged.model_validate(known)


def _held_out_uses(session: Session, study: Study) -> int:
    """How many studies have been scored on the same rows; 0 where none are held out."""
    scored = (
        select(func.count())
        .select_from(Trial)
        .join(Study, Study.id == Trial.study_id)
        .where(Study.holdout_sha256 == study.holdout_sha256)
        .where(Trial.kind == "final", Trial.state == "complete")
    )
    return session.scalar(scored) or 0


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


def _rows(session: Session, study: Study, kind: protocol.TrialKind) -> list[Trial]:
    query = select(Trial).where(Trial.study_id == study.id, Trial.kind == kind)
    return list(session.scalars(query.order_by(Trial.id)))


def _scored(
    row: Trial,
    objective: protocol.TrainObjective | None,
    points: Mapping[int, Sequence[Report]],
    fresh: Trial | None,
    estimates: Sequence[protocol.Estimate],
) -> protocol.Scored:
    model = row.model or (objective.model if objective else "")
    name = WINNER if row.kind == "search" else model
    fixed = objective.params if objective and row.kind == "search" else {}
    folds = curves.folds_at(points.get(row.id, []), row.epoch)
    return protocol.Scored(
        name=name,
        model=model,
        params=fixed | row.params,
        number=row.number,
        epoch=row.epoch,
        values=_finite(row.values) if row.state == "complete" else None,
        folds=folds,
        spread=_spread(folds),
        fresh=_fresh(fresh, points) if fresh is not None else None,
        default=bool((row.system_attrs or {}).get("default")),
        held_out=[e for e in estimates if e.name == name and e.kind == "held_out"],
    )


def _fresh(row: Trial, points: Mapping[int, Sequence[Report]]) -> protocol.Fresh:
    folds = curves.folds_at(points.get(row.id, []), row.epoch)
    return protocol.Fresh(values=row.values or [], folds=folds, spread=_spread(folds))


def _unnamed(scored: protocol.Scored) -> protocol.Scored:
    """Of a trial that did not win: the held-out scores are the winner's."""
    return scored.model_copy(update={"name": f"trial {scored.number}", "held_out": []})


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
