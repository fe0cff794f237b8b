"""Trials and their curves."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue, StringConstraints

from hpo_service.protocol.base import (
    Action,
    FixedValue,
    Key,
    Model,
    ParamValue,
    TrialKind,
    TrialState,
)
from hpo_service.protocol.study import Page


class ManualTrial(Model):
    """Settings to evaluate as they are; what is left out is sampled."""

    params: Annotated[dict[Key, ParamValue], Field(max_length=200)] = {}


class TrialError(Model):
    """Why a trial failed, in a word and in a sentence."""

    reason: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,50}$")]
    message: Annotated[str, StringConstraints(max_length=4000)] = ""


class Trial(Model):
    """A trial as the server shows it; `number` only for the search's own."""

    id: int
    number: int | None
    kind: TrialKind
    state: TrialState
    params: dict[str, FixedValue]
    values: list[float] | None
    metrics: dict[str, float | None]
    epoch: Annotated[int | None, Field(description="The common epoch e* that scored.")]
    error: TrialError | None
    attempts: int
    lost: int
    worker: str | None
    model: str | None = None
    notes: Annotated[
        dict[str, JsonValue],
        Field(description="What the newest attempt noted, such as the kernel that ran."),
    ] = {}
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class Trials(Page):
    trials: list[Trial]


class Point(Model):
    """One point of a trial's curve: mean values over the folds, and each fold's own.

    `train_folds`: the first metric of rows that each fold trained on, where it was measured.
    """

    step: int
    attempt: int
    values: list[float | None]
    folds: list[list[float | None]]
    train_folds: list[float | None] = []
    metrics: dict[str, float | None]
    action: Action


class Curve(Model):
    points: list[Point]


ReplayOutcome = Literal["same", "other", "given", "unknown"]


class Replayed(Model):
    """A trial's parameters beside what is proposed from what its own proposal depended on.

    given: they were not proposed, but somebody's own; unknown: the trial does not say.
    """

    number: int
    outcome: ReplayOutcome
    params: dict[str, FixedValue]
    replayed: dict[str, FixedValue] | None = None


class Replay(Page):
    trials: list[Replayed]
