"""Names of the learning rate's schedules; `workers.training.schedules` has a function for each."""

from __future__ import annotations

from typing import Literal

Schedule = Literal["constant", "step", "cosine", "one_cycle", "warm_up", "plateau"]
