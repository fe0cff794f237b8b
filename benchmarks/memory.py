"""A study in memory: what samplers are shown, without a database."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpo_service.cube import Cube
from hpo_service.samplers import Suggestion
from hpo_service.seen import CODES, Seen
from hpo_service.space import Params


class Memory:
    """The trials of one study with one loss, as columns that grow up to `capacity` trials."""

    def __init__(self, cube: Cube, capacity: int) -> None:
        self.cube, self.n = cube, 0
        self._rows = np.full((capacity, len(cube.names)), np.nan)
        self._legal = np.zeros(capacity, dtype=bool)
        self._states = np.full(capacity, CODES["waiting"], dtype=np.int8)
        self._losses = np.full((capacity, 1), np.nan)
        self._attrs: list[Any] = []

    def seen(self) -> Seen:
        """The trials so far."""
        n = self.n
        return Seen(
            cube=self.cube,
            rows=self._rows[:n],
            legal=self._legal[:n],
            states=self._states[:n],
            losses=self._losses[:n],
            steps=np.zeros(n, dtype=np.int64),
            attrs=self._attrs,
            at=lambda _step: np.full((n, 1), np.nan),
        )

    def start(self, suggestion: Suggestion) -> int:
        """Let a trial run; its number."""
        return self.start_all([suggestion.params], [dict(suggestion.attrs)])

    def start_all(self, params: list[Params], attrs: list[dict[str, Any]]) -> int:
        """Let many trials run; the number of the last."""
        at = slice(self.n, self.n + len(params))
        self._rows[at] = self.cube.rows(params)
        self._legal[at] = self.cube.legal(self._rows[at])
        self._states[at] = CODES["running"]
        self._attrs += attrs
        self.n = at.stop
        return self.n - 1

    def finish(self, number: int, loss: float) -> None:
        """A trial is complete."""
        self._states[number], self._losses[number] = CODES["complete"], loss
