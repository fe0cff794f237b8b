"""The trials of a study as columns: what samplers learn from, and what a proposal depended on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from hpo_service import protocol
from hpo_service.cube import Cube, Rows

STATES: tuple[protocol.TrialState, ...] = get_args(protocol.TrialState)
# Where a trial notes what its proposal depended on, so that it can be made again.
BASIS = "proposal"
CODES = {state: code for code, state in enumerate(STATES)}

Losses = NDArray[np.float64]
Mask = NDArray[np.bool_]
Attrs = Mapping[str, Any]


@dataclass(frozen=True)
class Seen:
    """The search rows of a study, by number; samplers change nothing of it.

    `rows` (trials, parameters): values as the cube has them, NaN for what is not active or not
    chosen yet; `legal` (trials,): which of them are points of the space; `losses` (trials,
    metrics): lower is better, NaN where there is none; `steps` (trials,): of a pruned trial the
    step that its losses are of, 0 where it is not known; `attrs`: what samplers noted on each
    trial, without what its proposal depended on. `at(step)`: the losses (trials, metrics) that
    finished trials had at that step.
    """

    cube: Cube
    rows: Rows
    legal: Mask
    states: NDArray[np.int8]
    losses: Losses
    steps: NDArray[np.int64]
    attrs: Sequence[Attrs]
    at: Callable[[int], Losses]
    study_attrs: Attrs = field(default_factory=dict)

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

    def with_running(self, rows: Rows) -> Seen:
        """As if trials of these rows (n, parameters) had been started since."""
        n = len(rows)
        nowhere = np.full((n, self.metrics), np.nan)
        return replace(
            self,
            rows=np.vstack([self.rows, rows]),
            legal=np.r_[self.legal, self.cube.legal(rows)],
            states=np.r_[self.states, np.full(n, CODES["running"], dtype=np.int8)],
            losses=np.vstack([self.losses, nowhere]),
            steps=np.r_[self.steps, np.zeros(n, dtype=np.int64)],
            attrs=[*self.attrs, *({} for _ in range(n))],
            at=lambda step: np.vstack([self.at(step), nowhere]),
        )

    def as_it_was(
        self, n: int, pending: Sequence[int], waiting: Sequence[int], rows: Mapping[int, Rows]
    ) -> Seen:
        """When there were `n` trials, of which those of the `pending` numbers had not ended, and
        those `waiting` were not running.

        `rows` (parameters,): what was known of trials whose parameters were not all chosen then.
        """
        unfinished = np.array(pending, dtype=np.intp)

        def hidden(losses: Losses) -> Losses:
            found = losses[:n].copy()
            found[unfinished] = np.nan
            return found

        known, states, steps = self.rows[:n].copy(), self.states[:n].copy(), self.steps[:n].copy()
        states[unfinished], steps[unfinished] = CODES["running"], 0
        states[np.array(waiting, dtype=np.intp)] = CODES["waiting"]
        for number, row in rows.items():
            known[number] = row
        return replace(
            self,
            rows=known,
            legal=self.cube.legal(known),
            states=states,
            losses=hidden(self.losses),
            steps=steps,
            attrs=self.attrs[:n],
            at=lambda step: hidden(self.at(step)),
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
        at=lambda _step: np.empty((0, metrics)),
    )
