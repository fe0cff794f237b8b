"""The trials of a study as columns: what samplers learn from, and what a proposal depended on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from hpo_service import protocol
from hpo_service.cube import Cube, Rows

STATES: tuple[protocol.TrialState, ...] = get_args(protocol.TrialState)
CODES = {state: code for code, state in enumerate(STATES)}

Losses = NDArray[np.float64]
Mask = NDArray[np.bool_]
Attrs = Mapping[str, Any]


def _no_curves(_step: int) -> Losses:
    raise NotImplementedError("these trials have no curves")


@dataclass(frozen=True)
class Seen:
    """The search rows of a study, by number; samplers change nothing of it.

    `rows` (trials, parameters): values as the cube has them, NaN for what is not active or not
    chosen yet; `legal` (trials,): which of them are points of the space; `losses` (trials,
    metrics): lower is better, NaN where there is none; `steps` (trials,): of a pruned trial the
    step that its losses are of, 0 where it is not known; `attrs`: what samplers noted on each
    trial. `at(step)`: the losses (trials, metrics) that finished trials had at that step.
    """

    cube: Cube
    rows: Rows
    legal: Mask
    states: NDArray[np.int8]
    losses: Losses
    steps: NDArray[np.int64]
    attrs: Sequence[Attrs]
    study_attrs: Attrs = field(default_factory=dict)
    at: Callable[[int], Losses] = _no_curves

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def metrics(self) -> int:
        """How many losses a trial has."""
        return int(self.losses.shape[1])

    @property
    def pending(self) -> Mask:
        """Which trials have not ended."""
        return np.asarray(self.states <= CODES["running"])

    def where(self, *states: str) -> Mask:
        """Which trials are in one of these states."""
        return np.isin(self.states, [CODES[state] for state in states])  # type: ignore[index]

    def before(self, number: int, pending: Collection[int]) -> Seen:
        """As it was when trial `number` was proposed and these trials had not ended."""
        open_ = np.isin(np.arange(number), list(pending))
        states = np.where(open_, CODES["running"], self.states[:number]).astype(np.int8)
        at = self.at

        def curves(step: int) -> Losses:
            return np.where(open_[:, None], np.nan, at(step)[:number])

        return replace(
            self,
            rows=self.rows[:number],
            legal=self.legal[:number],
            states=states,
            losses=np.where(open_[:, None], np.nan, self.losses[:number]),
            steps=np.where(open_, 0, self.steps[:number]),
            attrs=self.attrs[:number],
            at=curves,
        )

    def with_pending(self, rows: Rows) -> Seen:
        """As if these points (points, parameters) were running already."""
        more = len(rows)
        at = self.at

        def curves(step: int) -> Losses:
            return np.vstack([at(step), np.full((more, self.metrics), np.nan)])

        return replace(
            self,
            rows=np.vstack([self.rows, rows]),
            legal=np.r_[self.legal, np.ones(more, dtype=bool)],
            states=np.r_[self.states, np.full(more, CODES["running"], dtype=np.int8)],
            losses=np.vstack([self.losses, np.full((more, self.metrics), np.nan)]),
            steps=np.r_[self.steps, np.zeros(more, dtype=np.int64)],
            attrs=[*self.attrs, *({} for _ in range(more))],
            at=curves,
        )


def nothing(cube: Cube, metrics: int) -> Seen:
    """A study without trials."""
    n = len(cube.names)
    return Seen(
        cube=cube,
        rows=np.empty((0, n)),
        legal=np.empty(0, dtype=bool),
        states=np.empty(0, dtype=np.int8),
        losses=np.empty((0, metrics)),
        steps=np.empty(0, dtype=np.int64),
        attrs=[],
    )
