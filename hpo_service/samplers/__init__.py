"""The ways to propose trials. To add one: a file with its entry, and a line here."""

from __future__ import annotations

from hpo_service.samplers.auto import AUTO, Pick, picks
from hpo_service.samplers.base import Ask, Sampler, SamplerEntry, Suggestion
from hpo_service.samplers.from_optuna import CMA_ES, NSGA2
from hpo_service.samplers.gp import GP
from hpo_service.samplers.grid import GRID
from hpo_service.samplers.independent import RANDOM
from hpo_service.samplers.quasi_random import SOBOL
from hpo_service.samplers.tpe import TPE

__all__ = ["SAMPLERS", "Ask", "Pick", "Sampler", "SamplerEntry", "Suggestion", "picks"]

SAMPLERS: dict[str, SamplerEntry] = {
    "auto": AUTO,
    "random": RANDOM,
    "sobol": SOBOL,
    "grid": GRID,
    "tpe": TPE,
    "gp": GP,
    "cma_es": CMA_ES,
    "nsga2": NSGA2,
}
