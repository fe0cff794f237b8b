"""A study's search rows, read from SQL once and kept as columns: the cache behind `Seen`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import repeat
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Row, bindparam, select
from sqlalchemy.orm import Session

from hpo_service import curves, protocol
from hpo_service.cube import Cube
from hpo_service.seen import BASIS, CODES, Attrs, Losses, Mask, Seen
from hpo_service.tables import Report, Study, Trial, as_stored, decoded

# A list of numbers longer than this is replaced by a range in SQL.
NUMBERS_AT_ONCE = 500
# So many rows are decoded together: a long study is never in memory as text, or as objects.
ROWS_AT_ONCE = 2_000
FIRST_CAPACITY = 64
# Most trials note nothing that a sampler reads, and share this.
NOTHING: Attrs = MappingProxyType({})
TRIALS = Trial.__table__.c
QUERY = select(
    TRIALS.number, TRIALS.state, TRIALS.epoch, TRIALS.id,
    *as_stored(TRIALS.params, TRIALS["values"], TRIALS.system_attrs),
).where(TRIALS.study_id == bindparam("study")).order_by(TRIALS.number)  # fmt: skip
# Made once: making a statement takes longer than running it.
LISTED = QUERY.where(TRIALS.number.in_(bindparam("numbers", expanding=True)))
BEYOND = QUERY.where(TRIALS.number >= bindparam("first"))


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
        self._attrs: list[Attrs] = []
        self._curves: dict[int, tuple[Losses, Mask]] = {}

    def seen(self, session: Session, study: Study) -> Seen:
        """The trials as `session` sees them, until the ledger is asked again."""
        self._read(session, study.n_trials)
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

    def _read(self, session: Session, n_trials: int) -> None:
        """Read what is not known for good: the unfinished trials, and those that came since.

        Numbers have no gaps and come in order: each insert holds the lock of the study's row.
        """
        again = np.flatnonzero(self._unfinished)
        first, fresh = self.n, n_trials - self.n
        if not len(again) and not fresh:
            return
        query, numbers = BEYOND, [*again.tolist(), *range(first, n_trials)][: NUMBERS_AT_ONCE + 1]
        if len(again) and len(numbers) <= NUMBERS_AT_ONCE:
            query = LISTED
        given = {"study": self.study_id, "first": numbers[0], "numbers": numbers}
        # On the connection itself: what the ORM adds to it costs more than the few rows.
        for rows in session.connection().execute(query, given).partitions(ROWS_AT_ONCE):
            self._keep(session, rows)

    def _keep(self, session: Session, found: Sequence[Row[Any]]) -> None:
        self._grow(int(found[-1].number) + 1)
        at = np.array([row.number for row in found], dtype=np.int64)
        attrs = decoded(row.system_attrs for row in found)
        params = decoded(row.params for row in found)
        rows = self.cube.rows(list(map(_params, params, attrs)))
        self._columns["rows"][at] = rows
        self._columns["legal"][at] = self.cube.legal(rows)
        self._columns["states"][at] = [CODES[row.state] for row in found]
        self._columns["losses"][at] = self._losses(decoded(row.values for row in found))
        self._columns["steps"][at] = _steps(session, found)
        for row, noted in zip(found, attrs, strict=True):
            noted.pop(BASIS, None)
            self._attrs[row.number] = noted or NOTHING

    def _grow(self, n: int) -> None:
        if n > len(self._columns["states"]):
            larger = self._empty(max(n, 2 * self.n))
            for name, column in self._columns.items():
                larger[name][: self.n] = column[: self.n]
            self._columns = larger
        self._attrs += repeat(NOTHING, n - len(self._attrs))
        self.n = max(self.n, n)

    def _losses(self, values: Sequence[Sequence[float | None] | None]) -> Losses:
        """Stored values (trials, metrics) as losses; NaN for what is missing or not finite."""
        m = len(self.signs)
        whole = [v if v is not None and len(v) == m else [None] * m for v in values]
        return self.signs * np.array(whole, dtype=np.float64).reshape(-1, m)

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
                found[number] = self._losses([values])[0]
        self._curves[step] = found, ~self._unfinished
        return found.copy()

    @property
    def _unfinished(self) -> Mask:
        return np.asarray(self._columns["states"][: self.n] <= CODES["running"])


def numbered(numbers: NDArray[np.intp]) -> ColumnElement[bool]:
    """Trials of these ascending numbers; where they are many, all from the first one on."""
    if len(numbers) > NUMBERS_AT_ONCE:
        return Trial.number >= int(numbers[0])
    return Trial.number.in_(numbers.tolist())


def _params(params: dict[str, Any], attrs: Mapping[str, Any]) -> dict[str, protocol.ParamValue]:
    # A manual trial counts from the moment it waits.
    return attrs["fixed_params"] | params if "fixed_params" in attrs else params


def _steps(session: Session, found: Sequence[Row[Any]]) -> list[int]:
    """Where each pruned trial ended: what was told, else the last step of its curve."""
    untold = [row.id for row in found if row.state == "pruned" and row.epoch is None]
    last = {id_: curve[-1].step for id_, curve in curves.load(session, untold).items()}
    return [(row.epoch or last.get(row.id, 0)) if row.state == "pruned" else 0 for row in found]
