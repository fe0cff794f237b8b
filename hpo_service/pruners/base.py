"""What a pruner declares, and how one is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.pruners import BasePruner

from hpo_service import plugins
from hpo_service.cube import Cube


@dataclass(frozen=True)
class PrunerEntry:
    """A way to judge a running trial by one metric; without `build` it never prunes."""

    options: type[plugins.Options]
    build: Callable[[Any], BasePruner] | None = None

    def check(self, _cube: Cube, options: Mapping[str, Any], n_metrics: int) -> None:
        """Raise `InvalidRequest` unless the pruner can judge trials of so many metrics."""
        plugins.parse(self.options, options, "pruner")
        if n_metrics > 1 and self.build is not None:
            raise plugins.one_metric_only("pruner")

    def make(self, options: Mapping[str, Any]) -> BasePruner | None:
        """The pruner, afresh for each call: what it knows stands in the study's rows."""
        if self.build is None:
            return None
        return self.build(plugins.parse(self.options, options, "pruner"))
