"""Studies: what a user asks for, and how it stands."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hpo_service.protocol.base import (
    Direction,
    EndedBy,
    Finite,
    FixedValue,
    Key,
    Model,
    Name,
    ParamValue,
    StudyState,
    ValidationMethod,
)
from hpo_service.protocol.functions import PREFIX, FunctionName
from hpo_service.protocol.space import SearchSpace


class Validation(Model):
    """How a setting is scored inside the search part of the data.

    All draws are scikit-learn's, with `random_state = study seed + repeat`, over the rows in
    stored order; where the rows have groups, a group is never on both sides.

    `k_fold`: `KFold` or `StratifiedKFold` with `shuffle=True`; with groups `GroupKFold` or
    `StratifiedGroupKFold`. `hold_out`: one split a repeat, `ShuffleSplit` or
    `StratifiedShuffleSplit`, that scores on `share` of the rows; with groups `GroupShuffleSplit`,
    on `share` of the groups. `leave_one_out`: each row is scored once, by what was trained on all
    others; with groups each group. `time_series`, for rows that stand in the order of time:
    `TimeSeriesSplit`, each fold scored on rows later than all it was trained on.
    """

    method: Annotated[
        ValidationMethod | None,
        Field(description="Unset: time_series for data in the order of time, else k_fold."),
    ] = None
    folds: Annotated[
        int, Field(ge=2, le=100, description="Of k_fold and time_series; others leave it aside.")
    ] = 5
    repeats: Annotated[int, Field(ge=1, le=20)] = 1
    share: Annotated[
        float, Field(ge=0.01, le=0.9, description="Of hold_out: the share of rows that score.")
    ] = 0.2
    stratify: Annotated[
        bool | None,
        Field(description="Unset: where one class per row is drawn by k_fold or hold_out."),
    ] = None

    @property
    def scored_share(self) -> float:
        """Of the rows, those that one fold scores; of one row left out next to none."""
        if self.method == "leave_one_out":
            return 0.0
        pieces = self.folds + (self.method == "time_series")
        return self.share if self.method == "hold_out" else 1 / pieces

    @property
    def trained_share(self) -> float:
        """Of the rows, those that a fold trains on: in the order of time the first and smallest."""
        return self.scored_share if self.method == "time_series" else 1 - self.scored_share


class Outer(Model):
    """One outer fold of a nested cross-validation: held out by this study, whose search has the
    others. The folds depend on the data and on their number alone.
    """

    # Of two, the part that one study holds out would be what the other one searches on.
    folds: Annotated[int, Field(ge=3, le=20)]
    fold: Annotated[int, Field(ge=0, le=19, description="From 0.")]


Serve = Literal["best", "single", "ensemble", "folds"]


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
        float | None,
        Field(
            ge=0,
            le=0.5,
            description="Share of the rows that the search never sees. Unset: 0.2; of fewer than "
            "1,000 rows 0, where the result can be told from predictions of unseen rows, which "
            "says more of few rows: rows in no order of time, one metric, one answer per row.",
        ),
    ] = None
    outer: Annotated[
        Outer | None,
        Field(description="Hold out an outer fold of a nested cross-validation, and no share."),
    ] = None
    baselines: Annotated[
        bool | Annotated[list[Key], Field(min_length=1, max_length=20)],
        Field(
            description="Scored with their defaults on the same folds: true, all families of the "
            "task that are cheap on this data; or the names of some."
        ),
    ] = True
    serve: Annotated[
        Serve,
        Field(
            description="What the study's model is. single: the winner, refitted. ensemble: the "
            "best trials together, each refitted, weighted by their predictions of unseen rows. "
            "folds: the mean of the winner's networks of the search, one for each fold, refitted "
            "not at all. best: single, unless rows are held out and an ensemble beats it on the "
            "search's rows by more than one corrected standard error. What cannot be formed "
            "(several metrics, a family that makes rows) is served single, with a note."
        ),
    ] = "best"
    time_limit: Annotated[
        float,
        Field(
            gt=0,
            le=30 * 86400,
            description="Seconds one attempt may take; the last one, for each model it may refit.",
        ),
    ] = 3600.0


class ExternalObjective(Model):
    """Anything a caller measures itself; the service proposes, judges and keeps the books."""

    kind: Literal["external"]
    directions: Annotated[list[Direction], Field(min_length=1, max_length=4)] = ["minimize"]


class CustomObjective(Model):
    """A user's own Python function, which workers started with `--objective` have and run.

    With a `dataset` it is given the search part of the data and the folds of `validation`.
    """

    kind: Literal["custom"]
    name: FunctionName
    directions: Annotated[
        list[Direction], Field(min_length=1, max_length=4, description="Of each value it returns.")
    ]
    params: Annotated[dict[Key, FixedValue], Field(max_length=200)] = {}
    dataset: Annotated[
        Name | None, Field(description="Unset: the function brings its own data, or needs none.")
    ] = None
    validation: Validation = Validation()
    holdout: Annotated[
        float, Field(ge=0, le=0.5, description="Share of the rows that the search never sees.")
    ] = 0.2
    time_limit: Annotated[
        float, Field(gt=0, le=30 * 86400, description="Seconds one attempt may take.")
    ] = 3600.0


Objective = Annotated[
    TrainObjective | ExternalObjective | CustomObjective, Field(discriminator="kind")
]


def ability(objective: Objective) -> str:
    """What a caller has to name in `LeaseRequest.objectives` to be handed its trials."""
    if isinstance(objective, CustomObjective):
        return PREFIX + objective.name
    return objective.kind


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
    """What a study may spend, and what it is content with: the first that is reached ends it.

    When anything but `trials` ends a study, trials that run are stopped at their next report.
    """

    trials: Annotated[
        int | None,
        Field(
            ge=1, le=1_000_000, description="Numbered trials, in whatever state they end; exact."
        ),
    ] = None
    seconds: Annotated[
        float | None,
        Field(gt=0, le=10 * 366 * 86400, description="From the start of the first trial."),
    ] = None
    device_seconds: Annotated[
        float | None,
        Field(gt=0, le=1e12, description="Of all attempts at trials together, lost ones too."),
    ] = None
    epochs: Annotated[
        int | None,
        Field(ge=1, le=10**12, description="Reported steps of all attempts at trials together."),
    ] = None
    target: Annotated[
        Finite | None,
        Field(description="A value that is good enough: for one metric, in its direction."),
    ] = None
    no_gain: Annotated[
        bool,
        Field(
            description="End when what ten more trials can be expected to gain is less than the "
            "noise of the best value: for one metric, after 30 complete trials."
        ),
    ] = False

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if not (self.trials or self.seconds or self.device_seconds or self.epochs):
            raise ValueError("needs one of trials, seconds, device_seconds, epochs")
        return self


class Spent(Model):
    """What the trials of a study took so far: those that run count up to their last report."""

    seconds: float
    device_seconds: float
    epochs: int


class Gain(Model):
    """What ten more trials can be expected to gain, and the noise of the best value."""

    expected: float
    noise: float


class Sampling(Model):
    """Which samplers `auto` has picked for the trials from number `first` on, and why.

    Of several each proposes in turn.
    """

    first: int
    samplers: list[str]
    reason: str


class StudySpec(Model):
    """A study as a user writes it."""

    name: Name
    objective: Objective
    search_space: Annotated[
        SearchSpace | None, Field(description="Unset: the family's default space.")
    ] = None
    constraints: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=500)]],
        Field(
            max_length=50,
            description="Rules that every setting meets, such as `hidden_units * hidden_layers <= "
            "1024`; one that names a parameter which is not active is met.",
        ),
    ] = []
    sampler: Plugin = Plugin(name="auto")
    pruner: Plugin = Plugin(name="none")
    budget: Budget
    first: Annotated[
        list[dict[Key, ParamValue]] | None,
        Field(
            max_length=100,
            description="Settings to try first; what one leaves open is sampled. Unset: the "
            "family's default, so that the result says what tuning gained. A grid tries what is "
            "on it alone, and only a family has a default.",
        ),
    ] = None
    select: Annotated[
        Literal["fresh_folds", "one_standard_error", "none"],
        Field(
            description="How the winner is chosen. fresh_folds: the best few and the default are "
            "trained anew on other folds, whose mean decides. one_standard_error: of the trials "
            "within one corrected standard error of the best, the one with the fewest trained "
            "numbers (one metric only). none: nothing is, nor refitted: the study ends with its "
            "search."
        ),
    ] = "fresh_folds"
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0


class LearningCurveSpec(Model):
    """Shares of the training rows of each fold to train a study's winner on."""

    shares: Annotated[
        list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=2, max_length=20)
    ] = [0.1, 0.2, 0.4, 0.7, 1.0]
    repeats: Annotated[
        int | None, Field(ge=1, le=20, description="Of the folds. Unset: those of the study.")
    ] = None

    @field_validator("shares")
    @classmethod
    def _each_share_once(cls, shares: list[float]) -> list[float]:
        if len(set(shares)) != len(shares):
            raise ValueError("a share is listed twice")
        return sorted(shares)


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
    spent: Annotated[Spent | None, Field(description="Of one study; not in a listing.")] = None
    gain: Annotated[Gain | None, Field(description="What ended a search by `no_gain`.")] = None
    sampling: Annotated[
        list[Sampling], Field(description="What `auto` has picked; not in a listing.")
    ] = []
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
