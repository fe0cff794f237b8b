"""What ails the trials of a study, from their stored curves; `diagnosis` has the rules."""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from hpo_service import confirm, curves, diagnosis, final, protocol, ranking
from hpo_service.tables import Report, Study, Trial

# Curves are long: of more trials the best are told.
MOST_TRIALS = 100


def of_study(session: Session, study: Study) -> protocol.Diagnoses:
    """Of the best completed trials, and of the study as a whole; empty where there is none."""
    objective = confirm.objective_of(study)
    trials = ranking.first(session, study, MOST_TRIALS)
    if objective is None or not trials:
        return protocol.Diagnoses(study=None, trials=[])
    points = curves.load(session, [trial.id for trial in trials])
    name = (objective.metrics or [""])[0]
    known = [_curves(study, t, points.get(t.id, []), name) for t in trials]
    context = _context(session, study, objective.validation, trials)
    best = final.winner(session, study)
    place = next((at for at, trial in enumerate(trials) if trial is best), 0)
    found = diagnosis.of_study(known, place, context)
    return protocol.Diagnoses(
        study=_shown(study, found, trials[place]),
        trials=[
            _shown(study, diagnosis.of_trial(curve, context), trial)
            for trial, curve in zip(trials, known, strict=True)
        ],
    )


def _curves(study: Study, trial: Trial, points: Sequence[Report], metric: str) -> diagnosis.Curves:
    steps = [point.step for point in points]
    folds = [point.folds[0] if point.folds else [] for point in points]
    trained = [point.train_folds for point in points]
    if not all(trained):
        trained = [[point.metrics.get(f"train_{metric}")] for point in points]
    return diagnosis.Curves(
        train=_parts(trained),
        valid=_parts(folds),
        direction=study.directions[0],
        chosen=steps.index(trial.epoch) if trial.epoch in steps else None,
    )


def _context(
    session: Session, study: Study, validation: protocol.Validation, trials: Sequence[Trial]
) -> diagnosis.Context:
    scored = validation.scored_share
    rows = session.scalars(
        select(Trial).where(Trial.study_id == study.id, Trial.kind == "baseline")
    )
    baselines = [row for row in rows if row.values and row.state == "complete"]
    values = [row.values[0] for row in (*trials, *baselines) if row.values]
    maximized = study.directions[0] == "maximize"
    return diagnosis.Context(
        n_train=1 - scored,
        n_valid=scored,
        best=max(values) if maximized else min(values),
        over_seeds=_over_seeds(session, study),
    )


def _over_seeds(session: Session, study: Study) -> float | None:
    """Standard deviation of a setting's mean over other folds and seeds, from the repeats of all
    that were confirmed; None where they were not repeated.
    """
    rows = [each.row for each in confirm.confirmed(session, study)]
    points = curves.load(session, [row.id for row in rows])
    variances = []
    for row in rows:
        folds = curves.folds_at(points.get(row.id, []), row.epoch)
        repeats = int(row.system_attrs[confirm.REPEATED])
        known = [value for value in (folds[0] if folds else []) if value is not None]
        if repeats > 1 and known and len(known) % repeats == 0:
            size = len(known) // repeats
            means = [statistics.fmean(known[at : at + size]) for at in range(0, len(known), size)]
            variances.append(statistics.variance(means))
    return math.sqrt(statistics.fmean(variances)) if variances else None


def _shown(study: Study, found: diagnosis.Diagnosis, trial: Trial) -> protocol.Diagnosis:
    named = [each.format(study=shlex.quote(study.name)) for each in found.next]
    return protocol.Diagnosis(
        number=trial.number or 0, kind=found.kind, reason=found.reason, next=named
    )


def _parts(points: Sequence[Sequence[float | None]]) -> list[list[float]]:
    """From the values of each point, one or several, to the curve of each."""
    return [[_number(value) for value in values] for values in zip(*points, strict=True)]


def _number(value: float | None) -> float:
    return math.nan if value is None else value
