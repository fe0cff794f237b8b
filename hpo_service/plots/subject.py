"""What a picture is drawn from."""

from __future__ import annotations

import math
from collections.abc import Callable

import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import select

from hpo_service import curves, errors, protocol, shares
from hpo_service.storage import Storage
from hpo_service.tables import Report, Study, Trial


class Subject:
    """A study, its metrics by name, and its completed trials with finite values.

    `target` is the value that Optuna is to draw, the first; None where there is one only.
    `categorical` and `whole` name the parameters whose axes need other ticks.
    """

    def __init__(self, storage: Storage, row: Study) -> None:
        self.storage, self._row = storage, row
        self.study = optuna.load_study(study_name=row.name, storage=storage)
        self.metrics = _metrics(row)
        self.metric = self.metrics[0]
        self.maximized = self.study.directions[0] == StudyDirection.MAXIMIZE
        completed = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        self.trials = [trial for trial in completed if all(map(math.isfinite, trial.values))]
        self.target: Callable[[FrozenTrial], float] | None = value
        if len(self.metrics) == 1:
            self.target = None
        ranges = {n: d for trial in self.trials for n, d in trial.distributions.items()}
        self.categorical = {n for n, d in ranges.items() if isinstance(d, CategoricalDistribution)}
        self.whole = {n for n, d in ranges.items() if isinstance(d, IntDistribution) and not d.log}

    def loss(self, trial: FrozenTrial) -> float:
        """The first value turned so that less is better."""
        return -value(trial) if self.maximized else value(trial)

    def curves(self, trials: list[FrozenTrial], *, values_only: bool = False) -> list[list[Report]]:
        """The curve of each trial, sorted by step, empty where it reported nothing."""
        ids = [trial._trial_id for trial in trials]
        with self.storage.database.read() as session:
            found = curves.load(session, ids, values_only=values_only)
        return [found.get(trial_id, []) for trial_id in ids]

    def epochs(self, trials: list[FrozenTrial]) -> list[int | None]:
        """The common epoch e* of each trial, which gave it its value."""
        ids = [trial._trial_id for trial in trials]
        with self.storage.database.read() as session:
            query = select(Trial.id, Trial.epoch).where(Trial.id.in_(ids))
            found: dict[int, int | None] = dict(iter(session.execute(query)))
        return [found[trial_id] for trial_id in ids]

    def shares(self) -> list[protocol.SharePoint]:
        """The trials by the share of the training rows that they were given."""
        with self.storage.database.read() as session:
            return shares.points(session, self._row)

    def require_params(self) -> None:
        """Raise `WrongState` where there is nothing to set values against."""
        if not any(trial.params for trial in self.trials):
            raise errors.WrongState("The completed trials have no parameters to show.")

    def importances(self) -> dict[str, float]:
        """As `plots.importances`."""
        if len({tuple(trial.values) for trial in self.trials}) == 1:
            raise errors.WrongState(
                "All completed trials have the same value: no parameter made a difference."
            )
        self.require_params()
        return optuna.importance.get_param_importances(self.study)


def value(trial: FrozenTrial) -> float:
    """A trial's first value."""
    first: float = trial.values[0]
    return first


def _metrics(row: Study) -> list[str]:
    objective = (row.spec or {}).get("objective", {})
    names = objective.get("metrics") or row.system_attrs.get("study:metric_names")
    if names:
        return [str(name) for name in names]
    several = len(row.directions) > 1
    return [f"value {i}" if several else "value" for i in range(len(row.directions))]
