"""Leases, reports and tells: what workers say."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from hpo_service.protocol.base import (
    MAX_LEASES,
    Action,
    Fate,
    Finite,
    FixedValue,
    Int63,
    Key,
    LeaseId,
    Model,
    Name,
    Sha256,
    ShortText,
    Step,
    TrialKind,
    TrialState,
    WorkerName,
)
from hpo_service.protocol.study import Objective
from hpo_service.protocol.trials import TrialError


class LeaseRequest(Model):
    """Ask for up to `len(lease_ids)` trials of one study."""

    worker: WorkerName
    lease_ids: Annotated[list[LeaseId], Field(min_length=1, max_length=MAX_LEASES)]
    study: Annotated[Name | Int63 | None, Field(description="Name or id; unset: any.")] = None
    objectives: Annotated[
        list[Key],
        Field(
            min_length=1,
            max_length=20,
            description="What the caller can run: `train`, `external`, `custom:` and the name of "
            "a function.",
        ),
    ] = ["train"]
    alike: Annotated[
        int,
        Field(
            ge=1,
            le=MAX_LEASES,
            description="Of several new trials of a family of networks, so many in a row have one "
            "shape and batch size, so that they can be trained in one pass.",
        ),
    ] = 1

    @field_validator("lease_ids")
    @classmethod
    def _each_id_once(cls, ids: list[str]) -> list[str]:
        if len(set(ids)) != len(ids):
            raise ValueError("a lease id is listed twice")
        return ids


class ModelSetting(Model):
    """A model to refit and score: family, params, epochs e*, randomness, cross-validated values;
    the winner has the `number` of its trial.

    `notes` are those of the attempt that found it, such as when its learning rate dropped.
    """

    name: str
    model: str
    params: dict[str, FixedValue]
    epochs: int | None
    seed: int
    number: int | None = None
    values: list[float]
    notes: dict[str, JsonValue] = {}


class OutOfFold(Model):
    """The stored predictions of a completed row, for the holder of the final lease.

    A tensor `prediction` (repeats, rows, outputs) float32, rows as in the search part, NaN where
    no fold scores a row. Of a `confirm` row `number` or `model` is the one that it repeats.
    """

    kind: TrialKind
    number: int | None
    model: str | None
    values: list[float]
    folds: Annotated[list[list[float | None]], Field(description="At the epoch that scores.")]
    sha256: Sha256


class TrialLease(Model):
    """All a worker needs to run one attempt of one trial.

    `model` is the family to run (of a train study), `params` all of its fixed and
    proposed parameters. `seed` is the trial's own randomness, the same in every attempt;
    `study_seed` shuffles the folds. With an `epoch` the training ends after that one, on the
    schedule of all, and it is the one that scores. With a `resume_step` above 0 the artifact
    `checkpoint` holds the state after that step; an attempt that reports from step 1 on all the
    same begins anew.
    For a final lease `refits` names what to fit on the whole search part and to score on the blob
    `holdout`, readable with this lease alone, as are the `predictions`. An ensemble may be made of
    `members`; `networks` is the stored model of the winner's folds, where that is to be served.
    """

    lease_id: str
    study_id: int
    study: str
    trial_id: int
    number: int | None
    kind: TrialKind
    attempt: int
    ttl: float
    resume_step: int = 0
    model: str | None = None
    params: dict[str, FixedValue]
    epoch: int | None = None
    seed: int
    study_seed: int
    objective: Objective
    data: str | None = None
    holdout: str | None = None
    refits: list[ModelSetting] = []
    members: list[ModelSetting] = []
    predictions: list[OutOfFold] = []
    networks: Sha256 | None = None


class Leases(Model):
    leases: list[TrialLease]
    retry_after: Annotated[
        float | None, Field(description="Seconds to wait before asking again; null: go on.")
    ] = None


class Report(Model):
    """A finished step: one mean per optimised metric, `null` where it is not finite."""

    lease_id: LeaseId
    step: Step
    values: Annotated[list[Finite | None], Field(min_length=1, max_length=4)]
    folds: Annotated[
        list[Annotated[list[Finite | None], Field(max_length=2000)]],
        Field(max_length=4, description="One list per metric, in the order (repeat, fold)."),
    ] = []
    train_folds: Annotated[
        list[Finite | None],
        Field(
            max_length=2000,
            description="The first metric of rows that each fold trained on, beside `folds`.",
        ),
    ] = []
    metrics: Annotated[dict[Key, Finite | None], Field(max_length=50)] = {}

    @model_validator(mode="after")
    def _is_trained_by_fold(self) -> Self:
        each = len(self.train_folds)
        if each and [len(folds) for folds in self.folds] != [each] * len(self.values):
            raise ValueError("train_folds needs as many folds of each value in `folds`")
        return self


class Reports(Model):
    reports: Annotated[list[Report], Field(min_length=1, max_length=5000)]


class Decision(Model):
    """What to do next. `prune` at step k: the trial's value is that of step k."""

    action: Action
    step: int | None = None


class Decisions(Model):
    decisions: dict[str, Decision]


class Estimate(Model):
    """A score with its interval: on rows that were never searched on (`held_out`), or of the
    search's choice with the luck of choosing taken out (`bootstrap_cv`: Tsamardinos et al. 2018).
    """

    name: Annotated[
        ShortText,
        Field(description="`winner`, the baseline's family, or `served` where that is another."),
    ]
    kind: Literal["held_out", "bootstrap_cv"] = "held_out"
    metric: Key
    value: Finite
    low: Finite | None
    high: Finite | None
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    method: Annotated[ShortText, Field(description="How the interval was made.")]
    rows: Annotated[int, Field(ge=1)]
    bias: Annotated[
        Finite | None,
        Field(
            description="What a metric that is no mean over rows, such as R², is off by on average "
            "on so few rows, by the jackknife (Quenouille 1956): `value - bias` is off by less."
        ),
    ] = None


class Verdict(Model):
    """Whether the winner beats the best baseline, on fresh folds that both were trained on.

    `difference`: the winner's score less the baseline's, positive where the winner is better, and
    the ends of its 95 % interval; `p`: one-sided; `detectable`: the smallest true difference that
    the test finds in four of five cases; `smallest`: the smallest difference of interest.
    """

    answer: Literal["better", "not_better", "cannot_tell"]
    baseline: ShortText
    metric: Key
    difference: Finite
    low: Finite | None
    high: Finite | None
    p: Finite | None
    test: ShortText
    detectable: Finite | None
    smallest: Finite


class Ensemble(Model):
    """What the best trials would score together, by their out-of-fold predictions.

    `single`, `average` (of all members) or `greedy` (weights by repeated selection, Caruana et al.
    2004), whichever scored best; `weights` by trial number. Each fold is scored with what was
    chosen on the other folds: `score`, and `alone` of the best single trial chosen likewise;
    `standard_error` is that of their differences by fold, corrected for training rows in common.
    """

    kind: Literal["single", "average", "greedy"]
    metric: Key
    weights: Annotated[dict[str, Finite], Field(max_length=100)]
    score: Finite
    alone: Finite
    standard_error: Finite | None = None
    served: Annotated[bool, Field(description="Whether the study's model is this.")] = False


class Served(Model):
    """What the study's model is, decided before the held-out rows were opened.

    `single`: the winner, refitted; `ensemble`: see there, each member refitted; `folds`: the mean
    of the networks that the winner's folds trained in the search.
    """

    kind: Literal["single", "ensemble", "folds"]
    reason: Annotated[ShortText, Field(description="Why: the end of a sentence with `since`.")]
    held_out: Annotated[
        list[Estimate],
        Field(description="Its scores on held-out rows; of `single` they are the winner's."),
    ] = []


class Judged(Model):
    """What a final row found beside its scores."""

    verdict: Verdict | None = None
    ensemble: Ensemble | None = None
    served: Served | None = None


class Tell(Model):
    """How an attempt ended."""

    state: Literal["complete", "pruned", "fail"]
    values: Annotated[list[Finite | None], Field(min_length=1, max_length=4)] | None = None
    metrics: Annotated[dict[Key, Finite | None], Field(max_length=50)] = {}
    epoch: Step | None = None
    error: TrialError | None = None
    estimates: Annotated[list[Estimate], Field(max_length=200)] = []
    judged: Judged = Judged()
    notes: Annotated[
        dict[Key, JsonValue], Field(max_length=50, description="Facts worth keeping.")
    ] = {}

    @model_validator(mode="after")
    def _says_how_it_ended(self) -> Self:
        if self.state == "complete" and self.values is None:
            raise ValueError("a complete trial needs values")
        if self.state == "fail" and self.error is None:
            raise ValueError("a failed trial needs an error with a reason")
        return self


class Told(Model):
    """The trial as it now stands."""

    state: TrialState
    values: list[float] | None


class Beat(Model):
    """A worker's heartbeat: the device it runs on and the leases it holds."""

    device: Annotated[ShortText, Field(max_length=100)] = "cpu"
    lease_ids: Annotated[list[LeaseId], Field(max_length=MAX_LEASES)] = []


class Held(Model):
    """Per lease: `held` (renewed), `stop` (the trial has ended), `lost` (not yours any more)."""

    leases: dict[str, Fate]


class Worker(Model):
    name: str
    device: str
    first_seen: datetime
    last_seen: datetime
