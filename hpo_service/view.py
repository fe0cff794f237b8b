"""A study in memory, as Optuna's samplers see it: for one question, then forgotten."""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import optuna
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState


class View(InMemoryStorage):
    """Reads come from `trials`; attributes that are set are noted, to be stored by the caller.

    Of Optuna's storage only what samplers use is there.
    """

    def __init__(
        self,
        directions: Sequence[StudyDirection],
        trials: Iterable[FrozenTrial],
        system_attrs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.directions, self.system_attrs = list(directions), system_attrs or {}
        self.trials = {trial._trial_id: trial for trial in trials}
        self.trial_attrs: dict[int, dict[str, Any]] = {}
        self.study_attrs: dict[str, Any] = {}

    def optuna_study(self, sampler: BaseSampler) -> optuna.Study:
        """What samplers are handed."""
        return optuna.Study("view", self, sampler, NopPruner())

    def get_study_id_from_name(self, study_name: str) -> int:
        return 0

    def get_study_name_from_id(self, study_id: int) -> str:
        return "view"

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self.directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return {}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return {**self.system_attrs, **self.study_attrs}

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self.trials[trial_id]

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        chosen = [t for t in self.trials.values() if states is None or t.state in states]
        return copy.deepcopy(chosen) if deepcopy else chosen

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self.study_attrs[key] = value

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.trial_attrs.setdefault(trial_id, {})[key] = value
        if trial_id in self.trials:  # not the one that is being proposed
            trial = copy.copy(self.trials[trial_id])
            trial.system_attrs = trial.system_attrs | {key: value}
            self.trials[trial_id] = trial
