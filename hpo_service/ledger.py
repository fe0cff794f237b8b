"""A study's search rows, read from SQL once and kept as columns: the cache behind `Seen`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Row, or_, select
from sqlalchemy.orm import Session

from hpo_service import curves, protocol
from hpo_service.cube import Cube
from hpo_service.seen import CODES, Losses, Mask, Seen
from hpo_service.tables import Report, Study, Trial

# A list of numbers longer than this is replaced by a range in SQL.
NUMBERS_AT_ONCE = 500
FIRST_CAPACITY = 64
UNFINISHED = [CODES[state] for state in protocol.UNFINISHED]


class Ledger:
    """The trials of one study; only for one thread at a time.

    Finished trials never change and are read once; unfinished ones are read again each time. An
    edit of something finished raises the study's revision: then a new ledger is needed.
    """

    def __init__(self, study: Study, cube: Cube) -> None:
        self.study_id, self.revision, self.cube = study.id, study.revision, cube
        self.signs = np.array([-1.0 if d == "maximize" else 1.0 for d in study.directions])
        self.n = 0
        self._columns = self._empty(FIRST_CAPACITY)
        self._attrs: list[dict[str, Any]] = []
        self._curves: dict[int, tuple[Losses, Mask]] = {}

    def seen(self, session: Session, study: Study) -> Seen:
        """The trials as `session` sees them, until the ledger is asked again."""
        self._read(session)
        columns = {name: column[: self.n] for name, column in self._columns.items()}
        return Seen(
            cube=self.cube,
            attrs=self._attrs,
            study_attrs=study.system_attrs,
            at=partial(self._at, session),
            **columns,
        )

    # --- rows ----------------------------------------------------------------------------------

    def _empty(self, capacity: int) -> dict[str, NDArray[Any]]:
        return {
            "rows": np.full((capacity, len(self.cube.names)), np.nan),
            "legal": np.zeros(capacity, dtype=bool),
            "states": np.full(capacity, CODES["waiting"], dtype=np.int8),
            "losses": np.full((capacity, len(self.signs)), np.nan),
            "steps": np.zeros(capacity, dtype=np.int64),
        }

    def _read(self, session: Session) -> None:
        query = select(
            Trial.number, Trial.state, Trial.params, Trial.values, Trial.epoch, Trial.system_attrs,
            Trial.id,
        ).where(*self._unknown())  # fmt: skip
        found = session.execute(query.order_by(Trial.number)).all()
        if not found:
            return
        self._grow(int(found[-1].number) + 1)
        at = np.array([row.number for row in found], dtype=np.int64)
        rows = self.cube.rows(_params(row) for row in found)
        self._columns["rows"][at] = rows
        self._columns["legal"][at] = self.cube.legal(rows)
        self._columns["states"][at] = [CODES[row.state] for row in found]
        self._columns["losses"][at] = [self._losses(row.values) for row in found]
        self._columns["steps"][at] = _steps(session, found)
        for row in found:
            self._attrs[row.number] = row.system_attrs

    def _unknown(self) -> list[ColumnElement[bool]]:
        """The rows to read: those beyond the last one known, and the unfinished ones."""
        again = numbered(np.flatnonzero(self._unfinished))
        # Numbers have no gaps and come in order: each insert holds the lock of the study's row.
        beyond = Trial.number >= self.n
        return [Trial.study_id == self.study_id, Trial.kind == "search", or_(beyond, again)]

    def _grow(self, n: int) -> None:
        if n > len(self._columns["states"]):
            larger = self._empty(max(n, 2 * self.n))
            for name, column in self._columns.items():
                larger[name][: self.n] = column[: self.n]
            self._columns = larger
        self._attrs += [{} for _ in range(n - len(self._attrs))]
        self.n = max(self.n, n)

    def _losses(self, values: list[float | None] | None) -> Losses:
        if values is None or len(values) != len(self.signs):
            return np.full(len(self.signs), np.nan)
        return self.signs * np.array([np.nan if v is None else v for v in values], dtype=np.float64)

    # --- curves --------------------------------------------------------------------------------

    def _at(self, session: Session, step: int) -> Losses:
        """The losses (trials, metrics) of finished trials at a step, NaN where none is stored."""
        found, known = np.full((self.n, len(self.signs)), np.nan), np.zeros(self.n, dtype=bool)
        if step in self._curves:
            before, looked_up = self._curves[step]
            found[: len(before)], known[: len(before)] = before, looked_up
        fresh = np.flatnonzero(~self._unfinished & ~known)
        query = (
            select(Trial.number, Report.values)
            .join(Report, Report.trial_id == Trial.id)
            .where(Trial.study_id == self.study_id, Trial.kind == "search", numbered(fresh))
            .where(Trial.state.in_(("complete", "pruned")), Report.step == step)
            .order_by(Trial.number, Report.attempt)
        )
        for number, values in session.execute(query):
            if number < self.n:
                found[number] = self._losses(values)
        self._curves[step] = found, ~self._unfinished
        return found.copy()

    @property
    def _unfinished(self) -> Mask:
        return np.isin(self._columns["states"][: self.n], UNFINISHED)


def numbered(numbers: NDArray[np.intp]) -> ColumnElement[bool]:
    """Trials of these ascending numbers; where they are many, all from the first one on."""
    if len(numbers) > NUMBERS_AT_ONCE:
        return Trial.number >= int(numbers[0])
    return Trial.number.in_(numbers.tolist())


def _params(row: Row[Any]) -> dict[str, protocol.ParamValue]:
    # A manual trial counts from the moment it waits.
    found: dict[str, protocol.ParamValue] = row.system_attrs.get("fixed_params", {}) | row.params
    return found


def _steps(session: Session, found: Sequence[Row[Any]]) -> list[int]:
    """Where each pruned trial ended: what was told, else the last step of its curve."""
    untold = [row.id for row in found if row.state == "pruned" and row.epoch is None]
    last = {id_: curve[-1].step for id_, curve in curves.load(session, untold).items()}
    return [(row.epoch or last.get(row.id, 0)) if row.state == "pruned" else 0 for row in found]
