"""Learning curves over rows: what trials on different shares of the training rows came to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hpo_service import catalog, curves, protocol
from hpo_service.tables import Attempt, Report, Study, Trial

SHARE = "train_share"


def searched(study: Study) -> bool:
    """Whether the share to train on is all that the study's trials differ in."""
    space = (study.spec or {}).get("search_space") or {}
    return {catalog.plain(name) for name in space} == {SHARE}


def lowest(
    family: catalog.Family,
    fixed: Mapping[str, protocol.FixedValue],
    space: Mapping[str, protocol.Distribution],
) -> Iterator[tuple[str, float]]:
    """The smallest share that trials may be given, by the field that says so."""
    yield f"objective.params.{SHARE}", catalog.settings_of(family, fixed).train_share
    for name, distribution in space.items():
        if catalog.plain(name) != SHARE:
            continue
        if isinstance(distribution, protocol.Choice):
            choices = (each for each in distribution.choices if isinstance(each, int | float))
            yield f"search_space.{name}", min(choices)
        else:
            yield f"search_space.{name}", distribution.low


def points(session: Session, study: Study) -> list[protocol.SharePoint]:
    """The completed trials by their share, the smallest first, with their first metric."""
    trials = session.scalars(
        select(Trial)
        .where(Trial.study_id == study.id, Trial.kind == "search", Trial.state == "complete")
        .order_by(Trial.number)
    ).all()
    found = curves.load(session, [trial.id for trial in trials])
    notes = _notes(session, study)
    made = [
        _point(trial, found.get(trial.id, []), notes.get(trial.id, {}), metric_of(study))
        for trial in trials
        if trial.values and math.isfinite(trial.values[0]) and SHARE in trial.params
    ]
    return sorted(made, key=lambda point: (point.share, point.number))


def metric_of(study: Study) -> str:
    """The first metric that the study optimises."""
    names = (study.spec or {}).get("objective", {}).get("metrics")
    return names[0] if names else "value"


def _notes(session: Session, study: Study) -> dict[int, Mapping[str, Any]]:
    """What the attempts noted that ended the trials, by trial."""
    told = (
        select(Attempt.trial_id, Attempt.notes)
        .join(Trial, Trial.id == Attempt.trial_id)
        .where(Trial.study_id == study.id, Attempt.outcome == "told")
    )
    return {trial_id: notes or {} for trial_id, notes in session.execute(told)}


def _point(
    trial: Trial, curve: Sequence[Report], notes: Mapping[str, Any], metric: str
) -> protocol.SharePoint:
    at = next((point for point in curve if point.step == trial.epoch), None)
    return protocol.SharePoint(
        number=trial.number or 0,
        share=trial.params[SHARE],
        rows=notes.get("train_rows"),
        value=(trial.values or [math.nan])[0],
        folds=at.folds[0] if at is not None and at.folds else [],
        train=at.metrics.get(f"train_{metric}") if at is not None else None,
        train_folds=at.train_folds if at is not None else [],
    )
