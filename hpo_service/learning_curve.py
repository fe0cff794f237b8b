"""A learning curve over rows: the winner of a study, trained on more and more of them.

It is an ordinary study, a grid over `train_share` with the winner's settings, on the same data,
folds and seed. Nothing is chosen, so nothing is trained on fresh folds or scored on held-out rows.
"""

from __future__ import annotations

import shlex

from sqlalchemy import select
from sqlalchemy.orm import Session

from hpo_service import catalog, errors, final, protocol, shares, studies
from hpo_service.tables import Study

ENDING = "-learning-curve"


def study_name(name: str) -> str:
    """The study that makes the learning curve of the one of this name."""
    return name + ENDING


def spec(session: Session, study: Study, asked: protocol.LearningCurveSpec) -> protocol.StudySpec:
    """The study to create; `WrongState` where there is no winner of a family of the catalog."""
    own = studies.spec_of(study)
    if own is None or not isinstance(own.objective, protocol.TrainObjective):
        raise errors.WrongState(
            f"{study.name} trains no family of the catalog: only its own program knows how to "
            "train it on fewer rows."
        )
    found = final.winner(session, study) if study.state == "finished" else None
    if found is None:
        when = "has no completed trial" if study.state == "finished" else f"is {study.state}"
        raise errors.WrongState(
            f"{study.name} {when}: a learning curve is of the winner of a study that has finished."
        )
    return own.model_copy(
        update={
            "name": _checked_name(study.name),
            "objective": _objective(own.objective, own.objective.params | found.params, asked),
            "search_space": {
                shares.SHARE: protocol.Choice(type="categorical", choices=[*asked.shares])
            },
            "constraints": [],
            "sampler": protocol.Plugin(name="grid"),
            "pruner": protocol.Plugin(name="none"),
            "budget": protocol.Budget(trials=len(asked.shares)),
            "first": None,
            "select": "none",
        }
    )


def of(session: Session, study: Study) -> Study:
    """The study itself where it is a learning curve, else the one that was made for it.

    Raises `WrongState` where there is none yet.
    """
    if shares.searched(study):
        return study
    made = session.scalar(select(Study).where(Study.name == study_name(study.name)))
    if made is None or not shares.searched(made):
        raise errors.WrongState(
            f"{study.name} has no learning curve over its rows yet: "
            f"`hpo study learning-curve {shlex.quote(study.name)}` makes one."
        )
    return made


def result(session: Session, study: Study) -> protocol.LearningCurve:
    """The curve as far as it has come; raises as `of` does."""
    made = of(session, study)
    return protocol.LearningCurve(
        study=made.name, metric=shares.metric_of(made), points=shares.points(session, made)
    )


def _checked_name(name: str) -> str:
    made = study_name(name)
    if len(made) > protocol.MAX_NAME:
        raise errors.invalid(
            "name",
            f"the learning curve would be the study {made!r}, longer than {protocol.MAX_NAME} "
            "characters: repeat the study under a shorter name",
        )
    return made


def _objective(
    own: protocol.TrainObjective,
    params: dict[str, protocol.FixedValue],
    asked: protocol.LearningCurveSpec,
) -> protocol.TrainObjective:
    fixed = {catalog.plain(name): value for name, value in params.items()}
    fixed.pop(shares.SHARE, None)
    repeats = asked.repeats or own.validation.repeats
    return own.model_copy(
        update={
            "params": fixed,
            "baselines": False,
            "validation": own.validation.model_copy(update={"repeats": repeats}),
        }
    )
