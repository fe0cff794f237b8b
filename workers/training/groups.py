"""Groups: trials that advance together, an epoch of all their folds at a time."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from hpo_service import catalog, protocol
from workers import generation, metrics
from workers.data.dataset import Dataset
from workers.data.folds import splits
from workers.data.layouts import Layout
from workers.data.parts import Part, Table, split
from workers.models import MODELS, EstimatorModel, NetworkModel
from workers.training import seeding
from workers.training.curve import Curve
from workers.training.lanes import Lane, Lanes


@dataclass(frozen=True)
class Trial:
    """One leased setting on its way."""

    lease: protocol.TrialLease
    family: catalog.Family
    settings: catalog.Hyperparameters
    curve: Curve


@dataclass(frozen=True)
class Scores:
    """One epoch of one trial, values in the order (repeat, fold)."""

    folds: dict[str, list[float]]
    train_loss: list[float] | None = None


@dataclass(frozen=True)
class Folds:
    """The splits of the search rows and what is measured on them; made once for a pack."""

    dataset: Dataset
    validation: protocol.Validation
    study_seed: int
    optimised: list[str]
    recorded: list[str]
    device: torch.device
    dtype: torch.dtype = torch.float32
    layout: Layout = "columns"

    @cached_property
    def parts(self) -> list[Part]:
        found = splits(self.dataset, self.validation, self.study_seed)
        return split(self.dataset, found, self.layout)

    @cached_property
    def table(self) -> Table:
        return Table.of(self.dataset.schema, self.parts, self.dtype, self.device)

    @cached_property
    def generations(self) -> list[generation.Generation]:
        """What generated rows are held against, part by part."""
        return [
            generation.Generation(part, self.study_seed + at, self.device)
            for at, part in enumerate(self.parts)
        ]

    def measure(self, prediction: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
        return metrics.measure(self.measured, prediction, target, mask)

    @property
    def measured(self) -> list[str]:
        """All metrics: those optimised first, then those only recorded."""
        return self.optimised + self.recorded


class NetworkGroup:
    """Trials whose networks have one shape: every fold of each is a lane of one pass."""

    def __init__(self, trials: Sequence[Trial], folds: Folds) -> None:
        self.trials = list(trials)
        self._folds = folds

    @cached_property
    def _lanes(self) -> Lanes:
        model = MODELS[self.trials[0].family.name]
        assert isinstance(model, NetworkModel)
        lanes = [lane for trial in self.trials for lane in self._lanes_of(trial)]
        return Lanes(model, lanes, self._folds.table)

    def _lanes_of(self, trial: Trial) -> Iterable[Lane]:
        for part in range(len(self._folds.parts)):
            repeat, fold = divmod(part, self._folds.validation.folds)
            yield Lane(trial.settings, part, seeding.generator(trial.lease.seed, repeat, fold))

    def advance(self) -> list[Scores]:
        """Train all lanes for one epoch and score them on their validation rows."""
        losses = self._lanes.epoch()
        copies = len(self.trials)
        generates = self.trials[0].family.tasks == ("generation",)
        found = self._generated() if generates else self._predicted()
        by_trial = {name: values.view(copies, -1).tolist() for name, values in found.items()}
        train = losses.view(copies, -1).tolist()
        return [
            Scores({name: values[at] for name, values in by_trial.items()}, train[at])
            for at in range(copies)
        ]

    def _predicted(self) -> dict[str, Tensor]:
        table, copies = self._folds.table, len(self.trials)
        target = torch.cat([table.valid_target] * copies)
        mask = torch.cat([table.valid_mask] * copies)
        return self._folds.measure(self._lanes.predict(), target, mask)

    def _generated(self) -> dict[str, Tensor]:
        parts = range(len(self._folds.parts))
        seeds = [
            [trial.lease.seed, *divmod(part, self._folds.validation.folds)]
            for trial in self.trials
            for part in parts
        ]
        network, against = self._lanes.network, self._folds.generations * len(self.trials)
        assert isinstance(network, generation.Generator)
        return generation.measure(network, against, seeds, self._folds.measured)

    def keep(self, trials: Sequence[Trial]) -> None:
        """Go on with these trials only: the lanes of the others leave the pass."""
        if len(trials) == len(self.trials):
            return
        parts = len(self._folds.parts)
        at = [at for at, trial in enumerate(self.trials) if trial in trials]
        self.trials = [self.trials[i] for i in at]
        if at:
            self._lanes.keep([i * parts + part for i in at for part in range(parts)])


class EstimatorGroup:
    """One trial of a family that is fitted at once: a single step."""

    def __init__(self, trial: Trial, folds: Folds) -> None:
        self.trials = [trial]
        self._folds = folds

    def advance(self) -> list[Scores]:
        """Fit and score every fold."""
        trial = self.trials[0]
        scores: dict[str, list[float]] = {name: [] for name in self._folds.measured}
        for part in self._folds.parts:
            for name, value in self._score(trial, part).items():
                scores[name].append(value)
        return [Scores(scores)]

    def keep(self, trials: Sequence[Trial]) -> None:
        """Go on with these trials only."""
        self.trials = list(trials)

    def _score(self, trial: Trial, part: Part) -> dict[str, float]:
        model = MODELS[trial.family.name]
        assert isinstance(model, EstimatorModel)
        outputs = self._folds.dataset.outputs
        fitted = model.fit(trial.settings, part.train_inputs, part.train_target, outputs)
        prediction = torch.from_numpy(fitted.predict(part.valid_inputs))
        target = torch.from_numpy(part.valid_target)
        mask = torch.ones(1, len(target), dtype=torch.float64)
        found = self._folds.measure(prediction[None], target[None], mask)
        return {name: float(value[0]) for name, value in found.items()}


Group = NetworkGroup | EstimatorGroup


def plan(trials: Sequence[Trial], folds: Folds) -> list[Group]:
    """The fewest groups: networks of one shape together, everything else alone."""
    groups: list[Group] = []
    alike: dict[Hashable, list[Trial]] = {}
    for trial in trials:
        model = MODELS[trial.family.name]
        if isinstance(model, NetworkModel):
            alike.setdefault(_pass_of(model, trial), []).append(trial)
        else:
            groups.append(EstimatorGroup(trial, folds))
    return groups + [NetworkGroup(together, folds) for together in alike.values()]


def _pass_of(model: NetworkModel, trial: Trial) -> Hashable:
    settings: Any = trial.settings
    same = (settings.batch_size, settings.optimizer)
    return trial.family.name, model.shape(settings), same
