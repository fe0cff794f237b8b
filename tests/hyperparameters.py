"""Settings of networks as optimizers, penalties and schedules read them."""

from __future__ import annotations

from typing import Any

from hpo_service import catalog


def hyperparameters(**changes: Any) -> catalog.NetworkHyperparameters:
    """The defaults with these changes."""
    return catalog.NetworkHyperparameters(**changes)
