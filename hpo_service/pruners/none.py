"""Ends no trial."""

from __future__ import annotations

from hpo_service.plugins import Options
from hpo_service.pruners.base import PrunerEntry


class NoneOptions(Options):
    """Every trial runs to its end."""


NONE = PrunerEntry(options=NoneOptions, any_length=True)
