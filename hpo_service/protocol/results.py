"""What a study came to, and what went wrong."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hpo_service.protocol.base import FixedValue, Model
from hpo_service.protocol.leases import Ensemble, Estimate, Served, Verdict
from hpo_service.protocol.trials import TrialError


class Fresh(Model):
    """Scores on folds that chose nothing else, drawn after the search: a row of kind `confirm`."""

    values: list[float]
    folds: list[list[float | None]]
    spread: Annotated[list[float], Field(description="Standard deviation over folds.")]


class Scored(Model):
    """One setting's scores: cross-validated in the search, on fresh folds, and on held-out rows."""

    name: str
    model: str
    params: dict[str, FixedValue]
    number: int | None
    epoch: int | None
    values: list[float] | None
    folds: list[list[float | None]]
    spread: Annotated[list[float], Field(description="Standard deviation over folds.")]
    fresh: Fresh | None = None
    default: Annotated[bool, Field(description="The family's default setting.")] = False
    held_out: list[Estimate]


class Final(Model):
    """The result of a study: the winner and the baselines, side by side."""

    state: Literal["none", "waiting", "running", "complete", "fail"]
    metrics: list[str]
    winner: Scored | None
    confirmed: Annotated[
        list[Scored],
        Field(description="All trials that were evaluated on fresh folds, the winner among them."),
    ] = []
    baselines: list[Scored]
    estimate: Annotated[
        Estimate | None,
        Field(
            description="What the study's model is worth: its score on held-out rows; without "
            "such rows that of the search's choice alone, the luck of choosing taken out."
        ),
    ] = None
    verdict: Verdict | None = None
    ensemble: Ensemble | None = None
    served: Served | None = None
    held_out_uses: Annotated[
        int,
        Field(description="Studies that these very held-out rows have scored, this one included."),
    ] = 0
    notes: list[str]
    error: TrialError | None = None


class SharePoint(Model):
    """A setting trained on a share of each fold's training rows, by the study's first metric.

    `rows`: trained on, mean over folds; `value` and `folds` of the rows that score, which are the
    same for all shares; `train` and `train_folds` of rows that were trained on.
    """

    number: int
    share: float
    rows: float | None
    value: float
    folds: list[float | None]
    train: float | None
    train_folds: list[float | None]


class LearningCurve(Model):
    """How the score grows with the rows trained on; `study` is the one that measured it."""

    study: str
    metric: str
    points: list[SharePoint]


class Diagnosis(Model):
    """What ails a trial: too simple (underfitting, high bias), too free (overfitting, high
    variance), or a matter of luck (unstable); why, and what to try next, the best first.
    """

    number: int
    kind: Literal["underfitting", "overfitting", "unstable", "fine", "cannot_tell"]
    reason: str
    next: list[str]


class Diagnoses(Model):
    """Of the study, by its winner, and of its best trials, the best first."""

    study: Diagnosis | None
    trials: list[Diagnosis]


class Importances(Model):
    importances: dict[str, float]


class Problem(Model):
    code: str
    message: str
    fields: list[dict[str, str]] = []


class ErrorBody(Model):
    """The body of every answer that is not a success."""

    error: Problem
