"""The ways to judge a running trial. To add one: a file with its entry, and a line here."""

from __future__ import annotations

from hpo_service.pruners.base import PrunerEntry
from hpo_service.pruners.from_optuna import ASHA, MEDIAN, NONE

__all__ = ["PRUNERS", "PrunerEntry"]

PRUNERS: dict[str, PrunerEntry] = {
    "none": NONE,
    "median": MEDIAN,
    "asha": ASHA,
}
