"""Data sets: those that packages carry, and users' own; what a study gets of them.

Importing this loads neither numpy nor pandas nor scikit-learn; reading a data set does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache

from sqlalchemy import select
from sqlalchemy.orm import Session

from hpo_service import errors, protocol, tables
from hpo_service.artifacts import Blobs
from hpo_service.database import WriteSession
from hpo_service.datasets import outer, split, validating
from hpo_service.datasets.builtin import DATASETS
from hpo_service.datasets.ingest import ingest
from hpo_service.datasets.table import Table

__all__ = [
    "DATASETS",
    "Prepared",
    "Table",
    "add",
    "check_share",
    "describe",
    "ingest",
    "listing",
    "prepare",
    "store",
]


@dataclass(frozen=True)
class Prepared:
    """What a study needs: the whole table's schema, how it is validated (nothing left open), the
    share that is held out (None of an outer fold), the blobs of its two parts, and the least number
    to predict, None where classes are.
    """

    schema: protocol.DatasetSchema
    validation: protocol.Validation
    holdout: float | None
    search_sha256: str
    holdout_sha256: str | None
    search_rows: int
    least_target: float | None


def listing(session: Session) -> list[protocol.Dataset]:
    """All data sets: the built-in ones, then uploads by name."""
    rows = session.scalars(select(tables.Dataset).order_by(tables.Dataset.name))
    return [*map(_shown_builtin, DATASETS), *map(_shown, rows)]


def describe(name: str, session: Session) -> protocol.Dataset:
    """A data set with its schema; `NotFound` where there is none of that name."""
    if name in DATASETS:
        return _shown_builtin(name)
    row = _row(session, name)
    if row is None:
        raise errors.NotFound(_unknown(name, session))
    return _shown(row)


def store(blobs: Blobs, table: Table) -> str:
    """Keep the table as a blob and give back its SHA-256; nothing to do where it is kept already.

    Takes seconds for a large table: call it before the transaction that `add`s the table.
    """
    try:
        blobs.path(table.sha256)
    except errors.NotFound:
        blobs.put([table.to_bytes()])
    return table.sha256


def add(
    session: WriteSession,
    now: datetime,
    blobs: Blobs,
    name: str,
    table: Table,
    warnings: list[str],
) -> protocol.Dataset:
    """Enter an upload under a name; the same content again gets the same answer.

    Raises `NameTaken` where the name has another content.
    """
    if name in DATASETS:
        raise errors.NameTaken(f"{name!r} is a built-in data set: choose another name.")
    row = _row(session, name)
    if row is None:
        row = tables.Dataset(
            name=name,
            sha256=store(blobs, table),
            contents=table.schema.model_dump(mode="json"),
            warnings=warnings,
            created_at=now,
        )
        session.add(row)
        session.flush()
    elif row.sha256 != table.sha256:
        raise errors.NameTaken(f"Another data set is named {name!r} already: choose another name.")
    return _shown(row)


def prepare(
    session: Session,
    blobs: Blobs,
    name: str,
    holdout: float | None,
    validation: protocol.Validation,
    *,
    corrected: bool = False,
    fold: protocol.Outer | None = None,
) -> Prepared:
    """Split a data set for a study and store its parts as blobs, rows in stored order.

    The held-out rows depend on the content and on `holdout` (a share, 0 to 0.5; None: whatever is
    best, where `corrected` says that the study can do without) alone, so that
    every study of the data set holds out the same; with 0 all rows are searched on, those of an
    official test part too. An outer `fold` is held out in their stead, by `outer.parts`. Raises
    `InvalidRequest` for an unknown name, a package that is not installed, a validation that does
    not fit the data, a part that is too small, or more folds than the search part allows.
    """
    table = _load(session, blobs, name)
    validation = validating.settled(table.schema, validation)
    if fold is not None:
        kept, held = outer.parts(table, fold)
    else:
        if holdout is None:
            holdout = split.usual_share(table.schema) if corrected else split.SHARE
        kept, held = split.parts(table, holdout)
    search = table.take(kept) if len(held) else table
    validation = validating.fitting(search, validation)
    return Prepared(
        schema=table.schema,
        validation=validation,
        holdout=holdout,
        search_sha256=store(blobs, search),
        holdout_sha256=store(blobs, table.take(held)) if len(held) else None,
        search_rows=search.schema.rows,
        least_target=None if table.schema.classes else float(table.target.min()),
    )


def check_share(field: str, share: float, prepared: Prepared) -> None:
    """Refuse a share of the training rows of a fold that leaves too few: `InvalidRequest`."""
    trained = round(prepared.validation.trained_share * prepared.search_rows)
    classes = len(prepared.schema.classes) if validating.has_strata(prepared.schema) else 0
    needed = max(2, classes)
    if share < 1 and round(share * trained) < needed:
        raise errors.invalid(
            field,
            f"{share:g} of about {trained:,} training rows leaves {round(share * trained)}, too "
            f"few to train on (at least {needed}): take a larger share",
        )


def _load(session: Session, blobs: Blobs, name: str) -> Table:
    if name in DATASETS:
        return DATASETS[name].load()
    row = _row(session, name)
    if row is None:
        raise errors.invalid("objective.dataset", _unknown(name, session))
    return Table.from_bytes(blobs.read(row.sha256))


def _row(session: Session, name: str) -> tables.Dataset | None:
    # PostgreSQL cannot even be asked for a name with a NUL.
    return None if "\0" in name else session.get(tables.Dataset, name)


def _unknown(name: str, session: Session) -> str:
    uploads = session.scalars(select(tables.Dataset.name).order_by(tables.Dataset.name).limit(20))
    known = ", ".join([*DATASETS, *uploads])
    return f"There is no data set {name!r}: choose one of {known}, or upload it first."


def _shown_builtin(name: str) -> protocol.Dataset:
    try:
        return _builtin(name)
    except errors.InvalidRequest as missing:
        # Listed all the same, so that one sees what is to be had.
        return protocol.Dataset(
            name=name,
            builtin=True,
            description=DATASETS[name].description,
            warnings=[field.message for field in missing.fields],
        )


@cache
def _builtin(name: str) -> protocol.Dataset:
    table = DATASETS[name].load()
    return protocol.Dataset(
        name=name,
        builtin=True,
        description=DATASETS[name].description,
        contents=table.schema,
        sha256=table.sha256,
    )


def _shown(row: tables.Dataset) -> protocol.Dataset:
    contents = protocol.DatasetSchema.model_validate(row.contents)
    rows, columns = _count(contents.rows, "row"), _count(len(contents.columns), "column")
    classes = f" ({len(contents.classes)} classes)" if contents.classes else ""
    return protocol.Dataset(
        name=row.name,
        builtin=False,
        description=f"Uploaded: {rows}, {columns}, "
        f"{contents.task} of {' and '.join(contents.target)}{classes}.",
        contents=contents,
        sha256=row.sha256,
        warnings=row.warnings,
    )


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
