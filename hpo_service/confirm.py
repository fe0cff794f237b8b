"""Confirmation: the best few settings and the default, evaluated again on fresh folds.

A study's best value is the best of many, so it is partly luck. Once the search has ended, rows of
kind `confirm` evaluate the best trials anew, with fresh folds and fresh seeds, and the mean over
these alone decides. They have no number, so no sampler sees them and no budget counts them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hpo_service import protocol, ranking
from hpo_service.database import WriteSession
from hpo_service.tables import Study, Trial

# Of the search's own cost.
SHARE = 0.2
BEST = 5
FOLDS, REPEATS = 5, 2
# A choice needs something to choose from.
FEWEST = 2

# In a row's attributes: the number of the trial, or the family of the baseline, that it repeats.
OF, REPEATED = "confirms", "repeats"


@dataclass(frozen=True)
class Confirmed:
    """A search trial with its confirm row."""

    trial: Trial
    row: Trial


def start(session: WriteSession, now: datetime, study: Study) -> bool:
    """Insert the confirm rows of a study whose search has ended; False where there are none.

    None for several metrics, which have no single best; where the rule of choice is another one;
    and where two settings on fresh folds would cost more than a fifth of the search.
    """
    objective = objective_of(study)
    if objective is None or len(study.directions) > 1 or _rows(session, study):
        return False
    if (study.spec or {}).get("select") == "one_standard_error":
        return False
    settings, repeats = _affordable(_candidates(session, study), study, objective.validation)
    for trial in settings:
        session.add(_row(study, now, trial, trial.number, repeats))
    baseline = _best_baseline(session, study) if settings else None
    if baseline is not None:
        session.add(_row(study, now, baseline, baseline.model, repeats))
    return bool(settings)


def number(row: Trial) -> int | None:
    """The number of the trial that a confirm row repeats; None for any other row."""
    of = (row.system_attrs or {}).get(OF)
    return of if isinstance(of, int) else None


def validation(row: Trial, of_study: protocol.Validation) -> protocol.Validation:
    """How a confirm row is evaluated: as in the search, but cheaper than leaving each row out."""
    repeats = int(row.system_attrs[REPEATED])
    if of_study.method == "time_series":
        return of_study
    if of_study.method == "hold_out":
        return of_study.model_copy(update={"repeats": _folds(of_study) * repeats})
    return of_study.model_copy(
        update={"method": "k_fold", "folds": _folds(of_study), "repeats": repeats}
    )


def scored_share(given: protocol.Validation) -> float:
    """Of the rows, those that a fold of a confirm row scores."""
    folds = given.model_copy(update={"method": "k_fold", "folds": _folds(given)})
    return (given if given.method == "hold_out" else folds).scored_share


def chosen(session: Session, study: Study) -> Trial | None:
    """The search trial with the best mean over fresh folds; None where none was confirmed.

    Equal means: the lower log loss, where it was recorded, then the lower number.
    """

    def key(found: Confirmed) -> tuple[ranking.Losses, float, int]:
        fresh = ranking.losses(found.row.values, study.directions)
        return fresh, ranking.tie_breaker(found.row.metrics or {}), found.trial.number or 0

    best = min(confirmed(session, study), key=key, default=None)
    return best.trial if best else None


def confirmed(session: Session, study: Study) -> list[Confirmed]:
    """Trials whose confirm row is complete, by number."""
    rows = {row.system_attrs[OF]: row for row in _rows(session, study) if _counts(row, study)}
    query = select(Trial).where(Trial.study_id == study.id, Trial.number.in_(_numbers(rows)))
    trials = session.scalars(query.order_by(Trial.number))
    return [Confirmed(trial, rows[trial.number]) for trial in trials if trial.number is not None]


def of_baselines(session: Session, study: Study) -> dict[str, Trial]:
    """Complete confirm rows of baselines, by family."""
    rows = _rows(session, study)
    return {row.model: row for row in rows if row.model and _counts(row, study)}


def default(session: Session, study: Study) -> Trial | None:
    """The trial with the family's default setting."""
    first = session.scalar(select(Trial).where(Trial.study_id == study.id, Trial.number == 0))
    return first if first is not None and (first.system_attrs or {}).get("default") else None


def _candidates(session: Session, study: Study) -> list[Trial]:
    """The best trial, then the default, then the next best ones."""
    best, first = ranking.first(session, study, BEST), default(session, study)
    if first is None or not _counts(first, study) or first in best[:1]:
        return best
    return [*best[:1], first, *(each for each in best[1:] if each is not first)]


def _affordable(
    candidates: list[Trial], study: Study, given: protocol.Validation
) -> tuple[list[Trial], int]:
    """As many of them as fit, and on how many repeats of the folds: two, rather than many rows."""
    folds = _folds(given)
    trainings = given.repeats * (1 if given.method == "hold_out" else given.folds)
    fits = SHARE * study.n_trials * trainings
    for repeats in range(_most_repeats(given), 0, -1):
        count = min(len(candidates), int(fits // (folds * repeats)))
        if count >= min(len(candidates), FEWEST + (repeats > 1)) and count >= FEWEST:
            return candidates[:count], repeats
    return [], 0


def _folds(given: protocol.Validation) -> int:
    return given.folds if given.method == "time_series" else min(FOLDS, given.folds)


def _most_repeats(given: protocol.Validation) -> int:
    """Folds in time draw nothing, so a repeat would be the same."""
    return 1 if given.method == "time_series" else REPEATS


def _best_baseline(session: Session, study: Study) -> Trial | None:
    query = select(Trial).where(Trial.study_id == study.id, Trial.kind == "baseline")
    done = [row for row in session.scalars(query.order_by(Trial.id)) if _counts(row, study)]
    return min(done, key=lambda r: ranking.losses(r.values, study.directions), default=None)


def _row(study: Study, now: datetime, of: Trial, name: int | str | None, repeats: int) -> Trial:
    return Trial(
        study_id=study.id,
        kind="confirm",
        state="waiting",
        model=of.model,
        params=of.params,
        epoch=of.epoch,
        system_attrs={OF: name, REPEATED: repeats},
        created_at=now,
    )


def _rows(session: Session, study: Study) -> list[Trial]:
    query = select(Trial).where(Trial.study_id == study.id, Trial.kind == "confirm")
    return list(session.scalars(query.order_by(Trial.id)))


def _numbers(names: Iterable[object]) -> list[int]:
    return [name for name in names if isinstance(name, int)]


def _counts(row: Trial, study: Study) -> bool:
    complete = row.state == "complete" and ranking.comparable(row.values, study.directions)
    return complete and all(map(math.isfinite, row.values or []))


def objective_of(study: Study) -> protocol.TrainObjective | None:
    """What a study trains; None where it trains nothing of the catalog."""
    if study.spec is None:
        return None
    objective = protocol.StudySpec.model_validate(study.spec).objective
    return objective if isinstance(objective, protocol.TrainObjective) else None
