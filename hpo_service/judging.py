"""Decides on reported steps: each is judged once, by what the study's rows say at that moment."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hpo_service import catalog, curves, protocol
from hpo_service.pruners import PRUNERS, Case, Facts, Pruner, Standings
from hpo_service.seen import Losses
from hpo_service.standings import Book, Level
from hpo_service.tables import Report, Study

# The most folds that a report may hold, where each row or group is one.
MANY_FOLDS = 2000


class Point(Protocol):
    """A reported step, not stored yet: a `tables.Report`."""

    @property
    def trial_id(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def values(self) -> Any: ...
    @property
    def by_fold(self) -> Any: ...


class Judge:
    """Judges the trials of one study; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: _Open | None = None

    def decide(
        self, session: Session, study: Study, points: Sequence[Point]
    ) -> list[protocol.Decision]:
        """Decide on each point in the given order, each seeing those before it.

        `session` must not have ended a trial.
        """
        with self._lock:
            if self._open is None or self._open.revision != study.revision:
                self._open = _Open(study)
            pruner = self._open.pruner
            if pruner is None or not points:
                return [_decision("continue", point) for point in points]
            panel = _Panel(session, self._open.book, pruner, points)
            return [panel.judge(point) for point in points]


class _Open:
    """What is kept of a study, as long as nothing finished is edited."""

    def __init__(self, study: Study) -> None:
        self.revision = study.revision
        self.pruner: Pruner | None = None
        facts = Facts(signs(study.directions))
        searched: Sequence[str] = ()
        if study.spec is not None:
            spec = protocol.StudySpec.model_validate(study.spec)
            facts, searched = facts_of(spec, study.directions), list(spec.search_space or {})
            self.pruner = PRUNERS[spec.pruner.name].make(spec.pruner.options, facts)
        self.book = Book(study, facts, searched)


class _Panel:
    """Judges one batch of points."""

    def __init__(
        self, session: Session, book: Book, pruner: Pruner, points: Sequence[Point]
    ) -> None:
        self.session, self.book, self.pruner = session, book, pruner
        self.levels: dict[int, Level] = {}
        self.known_folds: dict[int, dict[int, NDArray[np.float64] | None]] = {}
        # What this batch has brought, in its order: losses and folds by step and number.
        self.brought: dict[int, dict[int, tuple[Losses, NDArray[np.float64]]]] = {}
        self.standings = Standings(
            **book.read(session), at=self._at, reported=self._reported, folds_at=self._folds_at
        )
        ids = {point.trial_id for point in points} & set(book.running)
        self.pruned_at, self.ended = _pruned_at(session, ids), set[int]()
        self.curves = self._curves(ids)

    def judge(self, point: Point) -> protocol.Decision:
        if point.trial_id not in self.book.running:  # a baseline is not pruned
            return _decision("continue", point)
        if point.trial_id not in self.ended:  # else it will not be stored: nobody is to see it
            case = self._case(self.book.running[point.trial_id], point)
            told = self.pruned_at.get(point.trial_id, math.inf) <= point.step
            if not told and not self.pruner.prunes(case):
                return _decision("continue", point)
            self.ended.add(point.trial_id)
        step = self.pruned_at.setdefault(point.trial_id, point.step)
        return protocol.Decision(action="prune", step=step)

    # --- what the pruner sees ------------------------------------------------------------------

    def _case(self, number: int, point: Point) -> Case:
        """The trial at this point, which all that are judged later see."""
        before = self.curves.get(point.trial_id, {})
        curve = {step: losses for step, losses in before.items() if step < point.step}
        losses, folds = self.book.losses(point.values), self.book.folds(point.by_fold or [])
        curve[point.step] = losses
        self.curves[point.trial_id] = curve
        self.brought.setdefault(point.step, {})[number] = losses, folds
        if point.step in self.levels:
            self.levels[point.step].put(number, losses)
        return Case(number, list(curve), np.array(list(curve.values())), folds, self.standings)

    def _level(self, step: int) -> Level:
        if step not in self.levels:
            self.levels[step] = self.book.level(self.session, step)
            for number, (losses, _) in self.brought.get(step, {}).items():
                self.levels[step].put(number, losses)
        return self.levels[step]

    def _at(self, step: int) -> Losses:
        return self._level(step).losses

    def _reported(self, step: int) -> NDArray[np.bool_]:
        return self._level(step).reported

    def _folds_at(self, step: int, numbers: Sequence[int]) -> NDArray[np.float64]:
        found = self.known_folds.setdefault(step, {})
        unknown = [number for number in numbers if number not in found]
        if unknown:
            found |= dict.fromkeys(unknown) | self.book.folds_at(self.session, step, unknown)
        found = found | {n: folds for n, (_, folds) in self.brought.get(step, {}).items()}
        each = [found.get(number) for number in numbers]
        width = max((folds.shape[1] for folds in each if folds is not None), default=0)
        padded = np.full((len(each), self.book.facts.metrics, width), np.nan)
        for at, folds in enumerate(each):
            if folds is not None:
                padded[at, :, : folds.shape[1]] = folds
        return padded

    # --- rows ----------------------------------------------------------------------------------

    def _curves(self, trial_ids: set[int]) -> dict[int, dict[int, Losses]]:
        """The losses of trials by their steps, in order."""
        query = (
            select(Report.trial_id, Report.step, Report.values)
            .where(Report.trial_id.in_(trial_ids), curves.counting())
            .order_by(Report.step, Report.attempt)
        )
        found: dict[int, dict[int, Losses]] = {}
        for trial_id, step, values in self.session.execute(query):
            found.setdefault(trial_id, {})[step] = self.book.losses(values)
        return found


def _pruned_at(session: Session, trial_ids: set[int]) -> dict[int, int]:
    """Where trials were told to stop: a decision stands, also in the next attempt."""
    query = (
        select(Report.trial_id, func.min(Report.step))
        .where(Report.trial_id.in_(trial_ids), Report.action == "prune")
        .group_by(Report.trial_id)
    )
    return dict(session.execute(query).all())


def _decision(action: protocol.Action, point: Point) -> protocol.Decision:
    return protocol.Decision(action=action, step=point.step)


# --- what is known of a study beforehand ------------------------------------------------------


def facts_of(spec: protocol.StudySpec, directions: Sequence[protocol.Direction]) -> Facts:
    """What pruners are told of a study with this spec, everything in it filled in."""
    known = _params(spec.objective)
    searched = {catalog.plain(name) for name in spec.search_space or {}}
    validation = _validation(spec.objective)
    epochs = None if "epochs" in searched else known.get("epochs")
    # Of a function of the user's own a parameter of this name means what he likes.
    iterated = spec.objective.kind == "train" and (
        "iterations" in searched or known.get("iterations") is not None
    )
    return Facts(
        signs=signs(directions),
        folds=0 if validation is None else _folds(validation),
        ratio=0.0 if validation is None else validation.scored_share / validation.trained_share,
        epochs=epochs if isinstance(epochs, int) and epochs > 0 and not iterated else None,
        iterated=iterated,
    )


def signs(directions: Sequence[protocol.Direction]) -> tuple[float, ...]:
    """What makes losses, of which lower ones are better, of values."""
    return tuple(-1.0 if direction == "maximize" else 1.0 for direction in directions)


def _validation(objective: protocol.Objective) -> protocol.Validation | None:
    """How folds are made, where the server knows that there are some."""
    if isinstance(objective, protocol.ExternalObjective):
        return None
    if isinstance(objective, protocol.CustomObjective) and objective.dataset is None:
        return None
    return objective.validation


def _folds(validation: protocol.Validation) -> int:
    if validation.method == "leave_one_out":
        return MANY_FOLDS
    return (1 if validation.method == "hold_out" else validation.folds) * validation.repeats


def _params(objective: protocol.Objective) -> dict[str, protocol.FixedValue]:
    """What is fixed in every trial, defaults of the family included."""
    if isinstance(objective, protocol.ExternalObjective):
        return {}
    if isinstance(objective, protocol.CustomObjective):
        return dict(objective.params)
    family = catalog.FAMILIES[objective.model]
    return family.hyperparameters().model_dump() | dict(objective.params)
