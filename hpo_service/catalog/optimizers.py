"""Names of the optimizers; `workers.training.optimizers` has one class for each."""

from __future__ import annotations

from typing import Literal

Optimizer = Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"]
