"""The ways to propose trials. To add one: a file with its entry, and a line here."""

from __future__ import annotations

from hpo_service.samplers.base import SamplerEntry, SpaceExhausted
from hpo_service.samplers.from_optuna import RANDOM, TPE
from hpo_service.samplers.gp import GP
from hpo_service.samplers.grid import GRID

__all__ = ["SAMPLERS", "SamplerEntry", "SpaceExhausted"]

SAMPLERS: dict[str, SamplerEntry] = {
    "random": RANDOM,
    "grid": GRID,
    "tpe": TPE,
    "gp": GP,
}
