"""The SQL tables: the only truth of the service."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
    type_coerce,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from hpo_service import protocol

Json = Any


class JsonText(TypeDecorator[Json]):
    """JSON as text: PostgreSQL's own types refuse NaN and Infinity, or forget the key order."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Json, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Json:
        return None if value is None else json.loads(value)


def as_stored(*columns: Any) -> list[ColumnElement[str]]:
    """Columns of JSON as the text they are, for `decoded`; under their own names."""
    return [type_coerce(column, Text).label(column.key) for column in columns]


def decoded(texts: Iterable[str | None]) -> list[Json]:
    """What many texts of JSON hold: together they take a third of the time."""
    found: list[Json] = json.loads(f"[{','.join(text or 'null' for text in texts)}]")
    return found


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes, also on SQLite, which keeps no time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Id = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime, str: Text, float: Float(53), int: Id}


class Study(Base):
    """A study. `spec` is NULL for those made through the Optuna bridge."""

    __tablename__ = "studies"
    # Ids of deleted studies must not come back: workers may still name them.
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str] = mapped_column(String(20))  # train | external | custom
    # Of a custom study: the name of the user's own function that its workers run.
    function: Mapped[str | None] = mapped_column(String(100))
    spec: Mapped[Json | None] = mapped_column(JsonText)
    directions: Mapped[Json] = mapped_column(JsonText)
    state: Mapped[protocol.StudyState] = mapped_column(String(20), index=True)
    ended_by: Mapped[protocol.EndedBy | None] = mapped_column(String(20))
    seed: Mapped[int]
    # The next number. Raised by each insert of a numbered trial, which so takes the row's lock.
    n_trials: Mapped[int] = mapped_column(default=0)
    budget_trials: Mapped[int | None]
    user_attrs: Mapped[Json] = mapped_column(JsonText, default=dict)
    system_attrs: Mapped[Json] = mapped_column(JsonText, default=dict)
    # Raised only by an edit of something finished or of the space: tells caches to start anew.
    revision: Mapped[int] = mapped_column(default=0)
    search_sha256: Mapped[str | None] = mapped_column(String(64))
    holdout_sha256: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class Trial(Base):
    """A trial; search rows are numbered, and only they exist for samplers, budgets and Optuna."""

    __tablename__ = "trials"
    __table_args__ = (
        UniqueConstraint("study_id", "number"),
        Index(
            "uq_trials_one_final",
            "study_id",
            unique=True,
            sqlite_where=text("kind = 'final'"),
            postgresql_where=text("kind = 'final'"),
        ),
        Index("ix_trials_study_id_state", "study_id", "state"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    kind: Mapped[protocol.TrialKind] = mapped_column(String(20))
    number: Mapped[int | None]
    state: Mapped[protocol.TrialState] = mapped_column(String(20))
    # Baseline, confirm and final rows: the family to run; NULL means the study's own.
    model: Mapped[str | None] = mapped_column(String(100))
    params: Mapped[Json] = mapped_column(JsonText, default=dict)
    # Optuna's own JSON of each parameter's distribution, by name.
    distributions: Mapped[Json] = mapped_column(JsonText, default=dict)
    values: Mapped[Json | None] = mapped_column(JsonText)
    metrics: Mapped[Json] = mapped_column(JsonText, default=dict)
    # The common epoch e* that `values` belong to.
    epoch: Mapped[int | None]
    error_reason: Mapped[str | None] = mapped_column(String(50))
    error_message: Mapped[str | None]
    # What the holder of a final row told: list of protocol.Estimate.
    estimates: Mapped[Json] = mapped_column(JsonText, default=list)
    user_attrs: Mapped[Json] = mapped_column(JsonText, default=dict)
    system_attrs: Mapped[Json] = mapped_column(JsonText, default=dict)
    # The current attempt: NULL where there is none, or an Optuna client runs the trial.
    lease_id: Mapped[str | None] = mapped_column(String(36), unique=True)
    deadline: Mapped[datetime | None]
    attempt: Mapped[int] = mapped_column(default=0)
    lost: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class Attempt(Base):
    """One lease, for ever: its id is used once, and is the fence of every later write."""

    __tablename__ = "attempts"
    __table_args__ = (UniqueConstraint("trial_id", "attempt"),)

    lease_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    trial_id: Mapped[int] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    worker: Mapped[str] = mapped_column(String(100))
    # SHA-256 of the API token that made the lease, empty without authentication.
    token: Mapped[str] = mapped_column(String(64))
    resume_step: Mapped[int] = mapped_column(default=0)
    # NULL while live; then told | lost | released | cancelled.
    outcome: Mapped[str | None] = mapped_column(String(20))
    tell_digest: Mapped[str | None] = mapped_column(String(64))
    notes: Mapped[Json] = mapped_column(JsonText, default=dict)
    error: Mapped[str | None]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class Report(Base):
    """A point of a trial's curve, and the decision that was made on it."""

    __tablename__ = "reports"

    trial_id: Mapped[int] = mapped_column(
        ForeignKey("trials.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    # 0 where an Optuna client wrote it.
    attempt: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    values: Mapped[Json] = mapped_column(JsonText)  # null stands for "not finite"
    # Each value's folds in the order (repeat, fold); below them, where they were reported, the
    # first metric of the rows that each fold trained on.
    by_fold: Mapped[Json] = mapped_column("folds", JsonText, default=list)
    metrics: Mapped[Json] = mapped_column(JsonText, default=dict)
    # The decision made on it, once: continue | prune | stop.
    action: Mapped[protocol.Action] = mapped_column(String(10), default="continue")
    created_at: Mapped[datetime]

    @property
    def folds(self) -> list[list[float | None]]:
        """For each value that of every fold; empty where only means are known."""
        found: list[list[float | None]] = self.by_fold[: len(self.values)]
        return found

    @property
    def train_folds(self) -> list[float | None]:
        """The first metric of the rows that each fold trained on; empty where it is not known."""
        found: list[float | None] = next(iter(self.by_fold[len(self.values) :]), [])
        return found


class Worker(Base):
    """A worker process that has called at least once."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    device: Mapped[str] = mapped_column(String(100))
    first_seen: Mapped[datetime]
    last_seen: Mapped[datetime]


class Dataset(Base):
    """A data set that was uploaded, as converted on arrival; the file lies under its SHA-256."""

    __tablename__ = "datasets"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    contents: Mapped[Json] = mapped_column(JsonText)  # a protocol.DatasetSchema
    warnings: Mapped[Json] = mapped_column(JsonText, default=list)
    created_at: Mapped[datetime]


class Artifact(Base):
    """A file that an attempt made; the bytes lie under their SHA-256."""

    __tablename__ = "artifacts"

    trial_id: Mapped[int] = mapped_column(
        ForeignKey("trials.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    attempt: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    size: Mapped[int]
    # Of a checkpoint: the step whose state it is.
    step: Mapped[int | None]
    created_at: Mapped[datetime]
