"""How a study's trials stand, read from SQL and kept as columns: what pruners compare with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row, or_, select
from sqlalchemy.orm import Session

from hpo_service import catalog, curves, protocol
from hpo_service.ledger import FIRST_CAPACITY, numbered
from hpo_service.pruners import Facts
from hpo_service.seen import CODES, Losses, Mask
from hpo_service.tables import Report, Study, Trial

# Trials that differ in one of these are not compared epoch by epoch.
COMPARED = ("epochs", "iterations", "schedule")


@dataclass
class Level:
    """What trials had at one step: `losses` (trials, metrics), and which `reported` it."""

    losses: Losses
    reported: Mask

    def upto(self, n: int) -> Level:
        """A copy with room for n trials."""
        losses, reported = np.full((n, self.losses.shape[1]), np.nan), np.zeros(n, dtype=bool)
        losses[: len(self.losses)], reported[: len(self.reported)] = self.losses, self.reported
        return Level(losses, reported)

    def put(self, numbers: int | NDArray[np.int64], losses: Losses) -> None:
        """What one trial reported, or several; of one that is named twice the last counts."""
        self.losses[numbers], self.reported[numbers] = losses, True


class Book:
    """The search trials of one study; only for one thread at a time.

    What finished trials had never changes and is read once, of each step when it is asked for; of
    unfinished ones it is read again each time. An edit of something finished raises the study's
    revision: then a new book is needed.
    """

    def __init__(self, study: Study, facts: Facts, searched: Iterable[str]) -> None:
        self.study_id, self.facts = study.id, facts
        self.signs = np.array(facts.signs)
        self.n = 0
        self.running: dict[int, int] = {}  # numbers of what had not ended, by id
        # So many steps of the optimizer are more epochs the larger a batch is.
        compared = (*COMPARED, "batch_size") if facts.iterated else COMPARED
        self._compared = [name for name in searched if catalog.plain(name) in compared]
        self._kinds: dict[tuple[Any, ...], int] = {}
        self._columns = self._empty(FIRST_CAPACITY)
        self._levels: dict[int, tuple[Level, Mask]] = {}

    def read(self, session: Session) -> dict[str, NDArray[Any]]:
        """The columns of `Standings` as `session` sees them, until they are read again."""
        again = numbered(np.flatnonzero(self._unfinished))
        params = [Trial.params, Trial.system_attrs] if self._compared else []
        found = session.execute(
            select(Trial.number, Trial.id, Trial.state, Trial.values, *params)
            .where(Trial.study_id == self.study_id, Trial.kind == "search")
            # Numbers have no gaps and come in order: each insert holds the lock of the study's row.
            .where(or_(Trial.number >= self.n, again))
            .order_by(Trial.number)
        ).all()
        if found:
            self._grow(int(found[-1].number) + 1)
        for row in found:
            self._enter(row)
        self.running = {row.id: row.number for row in found if row.state in protocol.UNFINISHED}
        return {name: column[: self.n] for name, column in self._columns.items()}

    def level(self, session: Session, step: int) -> Level:
        """What all trials had at a step, for the caller to change."""
        kept, known = self._levels.get(step, (self._nothing(), np.zeros(0, dtype=bool)))
        kept, looked_up = kept.upto(self.n), np.zeros(self.n, dtype=bool)
        looked_up[: len(known)] = known
        ended, live = ~self._unfinished, kept.upto(self.n)
        numbers, losses = self._points(session, step, np.flatnonzero(~looked_up))
        live.put(numbers, losses)
        kept.put(numbers[ended[numbers]], losses[ended[numbers]])
        self._levels[step] = kept, ended
        return live

    def folds_at(
        self, session: Session, step: int, numbers: Sequence[int]
    ) -> dict[int, NDArray[np.float64]]:
        """The losses (metrics, folds) of each fold, of those of the trials that reported them."""
        query = (
            select(Trial.number, Report.by_fold)
            .join(Report, Report.trial_id == Trial.id)
            .where(Trial.study_id == self.study_id, Trial.number.in_(numbers))
            .where(Report.step == step, curves.counting())
            .order_by(Report.attempt)
        )
        return {number: self.folds(by_fold) for number, by_fold in session.execute(query)}

    def folds(self, by_fold: Sequence[Sequence[float | None]]) -> NDArray[np.float64]:
        """The losses (metrics, folds) of what a report gives of its folds."""
        given = by_fold[: len(self.signs)]
        if len({len(folds) for folds in given}) != 1 or len(given) < len(self.signs):
            return np.empty((len(self.signs), 0))
        return self.signs[:, None] * np.array(given, dtype=np.float64)

    def _points(
        self, session: Session, step: int, numbers: NDArray[np.intp]
    ) -> tuple[NDArray[np.int64], Losses]:
        """Numbers and losses of what these trials reported, the newest attempt last."""
        query = (
            select(Trial.number, Report.values)
            .join(Report, Report.trial_id == Trial.id)
            .where(Trial.study_id == self.study_id, Trial.kind == "search", numbered(numbers))
            .where(Report.step == step, curves.counting())
            .order_by(Trial.number, Report.attempt)
        )
        found = [(n, values) for n, values in session.execute(query) if n < self.n]
        losses = np.array([_full(values, len(self.signs)) for _, values in found], dtype=np.float64)
        numbers = np.array([number for number, _ in found], dtype=np.int64)
        return numbers, self.signs * losses.reshape(-1, len(self.signs))

    def _enter(self, row: Row[Any]) -> None:
        self._columns["states"][row.number] = CODES[row.state]
        if row.values is not None:
            self._columns["losses"][row.number] = self.losses(row.values)
        if self._compared:
            given = row.system_attrs.get("fixed_params", {}) | row.params
            kind = tuple(given.get(name) for name in self._compared)
            self._columns["kinds"][row.number] = self._kinds.setdefault(kind, len(self._kinds))
            named = {catalog.plain(name): given.get(name) for name in self._compared}
            self._columns["epochs"][row.number] = named.get("epochs") or self.facts.epochs or np.nan

    def losses(self, values: list[float | None]) -> Losses:
        """A report's or a trial's values as losses (metrics,); all NaN where they are too few."""
        return self.signs * np.array(_full(values, len(self.signs)), dtype=np.float64)

    def _nothing(self) -> Level:
        return Level(np.empty((0, len(self.signs))), np.empty(0, dtype=bool))

    def _empty(self, capacity: int) -> dict[str, NDArray[Any]]:
        return {
            "states": np.full(capacity, CODES["waiting"], dtype=np.int8),
            "losses": np.full((capacity, len(self.signs)), np.nan),
            "kinds": np.zeros(capacity, dtype=np.int64),
            "epochs": np.full(capacity, float(self.facts.epochs or np.nan)),
        }

    def _grow(self, n: int) -> None:
        if n > len(self._columns["states"]):
            larger = self._empty(max(n, 2 * self.n))
            for name, column in self._columns.items():
                larger[name][: self.n] = column[: self.n]
            self._columns = larger
        self.n = max(self.n, n)

    @property
    def _unfinished(self) -> Mask:
        return np.asarray(self._columns["states"][: self.n] <= CODES["running"])


def _full(values: list[float | None], metrics: int) -> list[float | None]:
    return values if len(values) == metrics else [None] * metrics
