"""What crosses the wire: strict schemas shared by server, workers and clients.

Unknown fields, NaN and Infinity, numbers beyond 63 bits and control characters are refused.
Rules that need the catalog or the database are the server's (`hpo_service.studies`).
"""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    field_validator,
    model_validator,
)

MAX_INT = 2**63 - 1
MAX_LEASES = 64
MAX_GRID_POINTS = 100_000

StudyState = Literal["running", "paused", "finishing", "finished"]
EndedBy = Literal["budget", "space", "target", "time", "user"]
TrialState = Literal["waiting", "running", "complete", "pruned", "fail", "cancelled"]
TrialKind = Literal["search", "baseline", "confirm", "final"]
Direction = Literal["minimize", "maximize"]
Task = Literal["classification", "regression"]
# A data set never asks for generation: its target is left aside.
StudyTask = Literal["classification", "regression", "generation"]
DataKind = Literal["table", "image", "sequence", "symbols"]
ValidationMethod = Literal["k_fold", "time_series"]
Action = Literal["continue", "prune", "stop", "lost"]
Fate = Literal["held", "stop", "lost"]

UNFINISHED: tuple[TrialState, ...] = ("waiting", "running")
TERMINAL: tuple[TrialState, ...] = ("complete", "pruned", "fail", "cancelled")


def _plain_text(text: str) -> str:
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise ValueError("control characters and lone surrogates are not allowed")
    return unicodedata.normalize("NFC", text)


def _addressable(name: str) -> str:
    if name.isdigit() or "/" in name or "\\" in name or name in (".", "..") or name != name.strip():
        raise ValueError(
            "a name is part of addresses: no '/' or '\\', no blanks at the ends, "
            "not digits alone, not '.' or '..'"
        )
    return name


Text = Annotated[str, AfterValidator(_plain_text)]
ShortText = Annotated[str, StringConstraints(max_length=1000), AfterValidator(_plain_text)]
Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100),
    AfterValidator(_plain_text),
    AfterValidator(_addressable),
]
Key = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(_plain_text)]
WorkerName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:@-]{1,100}$")]
LeaseId = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"),
    Field(
        description="A UUID made by the worker, used once.",
        examples=["1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b"],
    ),
]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ArtifactName = Annotated[
    str, StringConstraints(max_length=100, pattern=r"^[A-Za-z0-9._-]*[A-Za-z0-9_-][A-Za-z0-9._-]*$")
]
# The artifact that the next attempt of a trial goes on from.
CHECKPOINT = "checkpoint"
Int63 = Annotated[int, Field(ge=-MAX_INT, le=MAX_INT)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Step = Annotated[int, Field(ge=1, le=2**31 - 1, description="Finished epochs, from 1.")]
ParamValue = bool | Int63 | Finite | ShortText | None
FixedValue = ParamValue | Annotated[list[ParamValue], Field(max_length=100)]


class Model(BaseModel):
    """Base of all schemas: nothing coerced, nothing unknown, nothing not finite."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


# --- search space ---------------------------------------------------------------------------


class _Conditional(Model):
    when: Annotated[
        dict[Key, Annotated[list[ParamValue], Field(min_length=1, max_length=1000)]] | None,
        Field(description="Active only where each named parameter has one of these values."),
    ] = None


class _Range(_Conditional):
    @model_validator(mode="after")
    def _low_is_not_above_high(self) -> Self:
        low, high = self.low, self.high  # type: ignore[attr-defined]
        if low > high:
            raise ValueError(f"low {low} is above high {high}: swap them")
        if self.log and low <= 0:  # type: ignore[attr-defined]
            raise ValueError(f"a log range needs low > 0, not {low}")
        if self.log and self.step not in (None, 1):  # type: ignore[attr-defined]
            raise ValueError("a range is either log or stepped: leave out one of the two")
        return self


class FloatRange(_Range):
    """Real numbers from `low` to `high`, both included."""

    type: Literal["float"]
    low: Finite
    high: Finite
    step: Annotated[float, Field(gt=0)] | None = None
    log: bool = False

    @model_validator(mode="after")
    def _width_is_finite(self) -> Self:
        if self.high - self.low == float("inf"):
            raise ValueError("the range from low to high is too wide for a float")
        return self


class IntRange(_Range):
    """Whole numbers from `low` to `high`, both included."""

    type: Literal["int"]
    low: Int63
    high: Int63
    step: Annotated[int, Field(gt=0, le=MAX_INT)] = 1
    log: bool = False


class Choice(_Conditional):
    """One of the listed values; their order has no meaning."""

    type: Literal["categorical"]
    choices: Annotated[list[ParamValue], Field(min_length=1, max_length=1000)]

    @field_validator("choices")
    @classmethod
    def _no_choice_twice(cls, choices: list[ParamValue]) -> list[ParamValue]:
        # Python holds 1, 1.0 and True for equal, and so do Optuna's categorical distributions.
        if len(set(choices)) != len(choices):
            raise ValueError("a choice is listed twice (1, 1.0 and true count as the same)")
        return choices


Distribution = Annotated[FloatRange | IntRange | Choice, Field(discriminator="type")]
SearchSpace = Annotated[dict[Key, Distribution], Field(min_length=1, max_length=200)]

# --- study ----------------------------------------------------------------------------------


class Validation(Model):
    """How a setting is scored inside the search part of the data.

    `k_fold`: scikit-learn's `KFold` or `StratifiedKFold` with `shuffle=True` and
    `random_state = study seed + repeat`, over the rows in stored order. `time_series`, for rows
    that stand in the order of time: scikit-learn's `TimeSeriesSplit`, each fold scored on rows
    later than all it was trained on.
    """

    method: Annotated[
        ValidationMethod | None,
        Field(description="Unset: time_series for data in the order of time, else k_fold."),
    ] = None
    folds: Annotated[int, Field(ge=2, le=100)] = 5
    repeats: Annotated[int, Field(ge=1, le=20)] = 1
    stratify: Annotated[
        bool | None,
        Field(description="Unset: for k_fold of one class per row, not for anything else."),
    ] = None


class TrainObjective(Model):
    """A network of the catalog, trained and cross-validated by our own workers."""

    kind: Literal["train"]
    model: Annotated[Key, Field(description="A model family of `GET /v1/catalog`.")]
    dataset: Annotated[Name, Field(description="A built-in data set, or one that was uploaded.")]
    metrics: Annotated[
        list[Key] | None,
        Field(min_length=1, max_length=4, description="Optimised. Unset: accuracy, or r2."),
    ] = None
    record: Annotated[list[Key], Field(max_length=20, description="Measured only.")] = []
    params: Annotated[dict[Key, FixedValue], Field(max_length=200)] = {}
    validation: Validation = Validation()
    holdout: Annotated[
        float, Field(ge=0, le=0.5, description="Share of the rows that the search never sees.")
    ] = 0.2
    baselines: bool = True
    time_limit: Annotated[
        float, Field(gt=0, le=30 * 86400, description="Seconds one attempt may take.")
    ] = 3600.0


class ExternalObjective(Model):
    """Anything a caller measures itself; the service proposes, judges and keeps the books."""

    kind: Literal["external"]
    directions: Annotated[list[Direction], Field(min_length=1, max_length=4)] = ["minimize"]


Objective = Annotated[TrainObjective | ExternalObjective, Field(discriminator="kind")]


class Plugin(BaseModel):
    """A sampler or pruner by name, its options beside the name."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True, hide_input_in_errors=True)
    __pydantic_extra__: dict[str, ParamValue | list[ParamValue] | dict[str, ParamValue]] = Field(
        init=False
    )

    name: Key

    @property
    def options(self) -> dict[str, Any]:
        """Everything beside the name."""
        return dict(self.__pydantic_extra__ or {})


class Budget(Model):
    """What a study may spend; a numbered trial counts in whatever state it ends."""

    trials: Annotated[int, Field(ge=1, le=1_000_000)]


class StudySpec(Model):
    """A study as a user writes it."""

    name: Name
    objective: Objective
    search_space: Annotated[
        SearchSpace | None, Field(description="Unset: the family's default space.")
    ] = None
    sampler: Plugin = Plugin(name="tpe")
    pruner: Plugin = Plugin(name="none")
    budget: Budget
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0


class StudyPatch(Model):
    """What may change later: pause, resume, stop (`finished`), or another budget."""

    state: Literal["running", "paused", "finished"] | None = None
    budget: Budget | None = None


class Counts(Model):
    """Numbered trials by state."""

    waiting: int = 0
    running: int = 0
    complete: int = 0
    pruned: int = 0
    fail: int = 0
    cancelled: int = 0


class Best(Model):
    """A best trial: one, or the Pareto set where several metrics are optimised."""

    number: int
    values: list[float]
    params: dict[str, FixedValue]
    epoch: int | None = None
    folds: list[list[float | None]] | None = None


class Study(Model):
    """A study as the server shows it."""

    id: int
    name: str
    state: StudyState
    ended_by: EndedBy | None
    directions: list[Direction]
    n_trials: int
    budget_trials: int | None
    counts: Counts
    best: list[Best]
    spec: StudySpec | None
    seed: int
    created_at: datetime
    ended_at: datetime | None


class Page(Model):
    """Where a listing goes on: `next` is the `after` of the following page."""

    next: int | None = None


class Studies(Page):
    studies: list[Study]


# --- trials ---------------------------------------------------------------------------------


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
    """One point of a trial's curve: mean values over the folds, and each fold's own."""

    step: int
    attempt: int
    values: list[float | None]
    folds: list[list[float | None]]
    metrics: dict[str, float | None]
    action: Action


class Curve(Model):
    points: list[Point]


# --- leases ---------------------------------------------------------------------------------


class LeaseRequest(Model):
    """Ask for up to `len(lease_ids)` trials of one study."""

    worker: WorkerName
    lease_ids: Annotated[list[LeaseId], Field(min_length=1, max_length=MAX_LEASES)]
    study: Annotated[Name | Int63 | None, Field(description="Name or id; unset: any.")] = None
    objectives: Annotated[list[Key], Field(min_length=1, max_length=20)] = ["train"]

    @field_validator("lease_ids")
    @classmethod
    def _each_id_once(cls, ids: list[str]) -> list[str]:
        if len(set(ids)) != len(ids):
            raise ValueError("a lease id is listed twice")
        return ids


class ModelSetting(Model):
    """A model to refit and score: family, params, epochs e*, randomness, cross-validated values.

    `notes` are those of the attempt that found it, such as when its learning rate dropped.
    """

    name: str
    model: str
    params: dict[str, FixedValue]
    epochs: int | None
    seed: int
    values: list[float]
    notes: dict[str, JsonValue] = {}


class TrialLease(Model):
    """All a worker needs to run one attempt of one trial.

    `model` is the family to run (none in an external study), `params` all of its fixed and
    proposed parameters. `seed` is the trial's own randomness, the same in every attempt;
    `study_seed` shuffles the folds. With a `resume_step` above 0 the artifact `checkpoint` holds
    the state after that step; an attempt that reports from step 1 on all the same begins anew.
    For a final lease `refits` names what to fit on the whole search part and to score on the blob
    `holdout`, readable with this lease alone.
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
    seed: int
    study_seed: int
    objective: Objective
    data: str | None = None
    holdout: str | None = None
    refits: list[ModelSetting] = []


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
    metrics: Annotated[dict[Key, Finite | None], Field(max_length=50)] = {}


class Reports(Model):
    reports: Annotated[list[Report], Field(min_length=1, max_length=5000)]


class Decision(Model):
    """What to do next. `prune` at step k: the trial's value is that of step k."""

    action: Action
    step: int | None = None


class Decisions(Model):
    decisions: dict[str, Decision]


class Estimate(Model):
    """A score on rows that were never searched on, with its interval."""

    name: Annotated[ShortText, Field(description="`winner`, or the baseline's family.")]
    metric: Key
    value: Finite
    low: Finite | None
    high: Finite | None
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    method: Annotated[ShortText, Field(description="How the interval was made.")]
    rows: Annotated[int, Field(ge=1)]


class Tell(Model):
    """How an attempt ended."""

    state: Literal["complete", "pruned", "fail"]
    values: Annotated[list[Finite | None], Field(min_length=1, max_length=4)] | None = None
    metrics: Annotated[dict[Key, Finite | None], Field(max_length=50)] = {}
    epoch: Step | None = None
    error: TrialError | None = None
    estimates: Annotated[list[Estimate], Field(max_length=200)] = []
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


# --- data -----------------------------------------------------------------------------------


class Column(Model):
    """An input column; `categories` in the order of the codes stored for it."""

    name: Text
    kind: Literal["numeric", "categorical"]
    categories: list[str] = []


class DatasetSchema(Model):
    """What a data blob holds (a safetensors file, this schema as JSON in its metadata).

    Tensors: `numeric` float64 (rows, numeric columns), NaN where missing; `categorical` int32
    (rows, categorical columns), -1 where missing; `target` int64 class codes (rows,) for
    classification, float64 (rows,) or (rows, targets) for regression.

    `shape` says what a row is:
    unset: a table;
    [channels, height, width]: an image, `numeric` (rows, channels * height * width), channel by
    channel;
    [steps, channels]: a sequence, `numeric` (rows, steps * channels), step by step; after the end
    of a shorter row NaN in all channels;
    [steps]: a text, `categorical` (rows, steps) codes into `symbols` (characters or words), -1
    after the end; `columns` is empty.
    """

    task: Task
    rows: int
    columns: list[Column]
    target: list[str]
    classes: list[str] = []
    shape: list[int] | None = None
    symbols: Annotated[
        list[str], Field(description="Of a text: its alphabet, in the order of the codes.")
    ] = []
    per_step: Annotated[
        bool,
        Field(description="One class for each step: `target` (rows, steps), -1 where none is."),
    ] = False
    ordered: Annotated[bool, Field(description="The rows stand in the order of time.")] = False

    @property
    def kind(self) -> DataKind:
        """What a row is, told by the length of `shape`."""
        kinds: dict[int, DataKind] = {0: "table", 1: "symbols", 2: "sequence", 3: "image"}
        return kinds[len(self.shape or [])]


class Dataset(Model):
    name: str
    builtin: bool
    description: str
    contents: DatasetSchema | None = None
    sha256: str | None = None
    warnings: list[str] = []


class Datasets(Model):
    datasets: list[Dataset]


class Artifact(Model):
    """A stored file; `step` says of which step a checkpoint holds the state."""

    name: str
    sha256: str
    size: int
    step: int | None = None


# --- result ---------------------------------------------------------------------------------


class Scored(Model):
    """One setting's scores: cross-validated in the search, and on the held-out rows."""

    name: str
    model: str
    params: dict[str, FixedValue]
    number: int | None
    epoch: int | None
    values: list[float] | None
    folds: list[list[float | None]]
    spread: Annotated[list[float], Field(description="Standard deviation over folds.")]
    held_out: list[Estimate]


class Final(Model):
    """The result of a study: the winner and the baselines, side by side."""

    state: Literal["none", "waiting", "running", "complete", "fail"]
    metrics: list[str]
    winner: Scored | None
    baselines: list[Scored]
    notes: list[str]
    error: TrialError | None = None


class Importances(Model):
    importances: dict[str, float]


class Problem(Model):
    code: str
    message: str
    fields: list[dict[str, str]] = []


class ErrorBody(Model):
    """The body of every answer that is not a success."""

    error: Problem
