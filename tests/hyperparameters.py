"""Settings of networks as optimizers, penalties and schedules read them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hpo_service import catalog

TRAINING: dict[str, Any] = {
    "nesterov": False,
    "schedule": "constant",
    "schedule_epochs": 10,
    "schedule_factor": 0.1,
    "l1": 0.0,
    "performance_ratio": 0.0,
    "clip_norm": 0.0,
}


def hyperparameters(**changes: Any) -> Any:
    """The defaults with these changes."""
    return SimpleNamespace(**TRAINING | catalog.NetworkHyperparameters().model_dump() | changes)
