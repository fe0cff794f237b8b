"""The ways to judge a running trial. To add one: a file with its entry, and a line here."""

from __future__ import annotations

from hpo_service.pruners.base import Case, Facts, Pruner, PrunerEntry, Standings
from hpo_service.pruners.by_fold import RACING, WILCOXON
from hpo_service.pruners.halving import ASHA, HYPERBAND
from hpo_service.pruners.median import MEDIAN, PERCENTILE
from hpo_service.pruners.none import NONE
from hpo_service.pruners.own_curve import PATIENCE, THRESHOLD

__all__ = ["PRUNERS", "Case", "Facts", "Pruner", "PrunerEntry", "Standings"]

PRUNERS: dict[str, PrunerEntry] = {
    "none": NONE,
    "median": MEDIAN,
    "percentile": PERCENTILE,
    "asha": ASHA,
    "hyperband": HYPERBAND,
    "patience": PATIENCE,
    "threshold": THRESHOLD,
    "wilcoxon": WILCOXON,
    "racing": RACING,
}
