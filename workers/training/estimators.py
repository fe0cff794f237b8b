"""A trial of a family that is fitted at once."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.data.parts import SHOWN_ROWS, Part
from workers.models import MODELS, EstimatorModel
from workers.models.base import Arrays
from workers.training import costs, seeding
from workers.training.costs import Cost
from workers.training.folds import Folds
from workers.training.lanes import State
from workers.training.scores import Scores
from workers.training.trial import Trial

CPU = torch.device("cpu")


class EstimatorGroup:
    """One trial of such a family: a single step."""

    def __init__(self, trial: Trial, folds: Folds) -> None:
        self.trials = [trial]
        self.folds = folds
        self._said: list[Tensor] = []
        self._fitted: list[Arrays] = []

    def advance(self) -> list[Scores]:
        """Fit and score every fold."""
        parts, names = self.folds.parts("columns", inner=False), self.folds.measured
        fitted = [self._fit(part, at) for at, part in enumerate(parts)]
        predictions = self._said = [prediction for prediction, *_ in fitted]
        self._fitted = [arrays for *_, arrays in fitted]
        each = [
            self.folds.measure_rows(names, prediction, [part])
            for prediction, part in zip(predictions, parts, strict=True)
        ]
        scores = {name: [measured[name] for measured in each] for name in names}
        scores |= costs.of_trial(self.folds.costs, [[cost] for _, _, cost, _ in fitted], False, {})
        shown = [found for _, found, _, _ in fitted]
        return [Scores(scores, shown=shown, pooled=self._pool(predictions, parts))]

    def keep(self, trials: Sequence[Trial]) -> None:
        """Go on with these trials only."""
        self.trials = list(trials)

    def smaller(self) -> None:
        """There is nothing to make smaller."""

    def predictions(self, trial: Trial) -> list[NDArray[np.float64]]:
        """What was said of the rows that each part scores, (rows, outputs)."""
        return [said.numpy() for said in self._said]

    def networks(self, trial: Trial) -> list[Arrays]:
        """What was fitted to each part."""
        return self._fitted

    def states(self, trial: Trial) -> list[State]:
        """Nothing to go on with."""
        return []

    @property
    def notes(self) -> dict[str, Any]:
        """How it was computed."""
        return {"kernel": "scikit-learn"} | self.folds.notes("columns", inner=False)

    def _fit(self, part: Part, at: int) -> tuple[Tensor, float, Cost, Arrays]:
        """What a fold's model says of the rows that score it, its score on some that it was fitted
        on, what it took, and its arrays.
        """
        trial = self.trials[0]
        model = MODELS[trial.family.name]
        assert isinstance(model, EstimatorModel)
        seed = seeding.integer(trial.lease.seed, *divmod(at, self.folds.per_repeat))
        outputs, weights = self.folds.dataset.outputs, part.train_weight
        inputs, target = part.train_inputs, part.train_target
        with costs.timed(CPU) as training:
            fitted = model.fit(trial.settings, inputs, target, outputs, seed, weights)
        with costs.timed(CPU) as predicting:
            prediction = torch.from_numpy(fitted.predict(part.valid_inputs))
        arrays = fitted.arrays()
        numbers = float(sum(array.size for array in arrays.values()))
        latency = 1000 * predicting.seconds / max(len(prediction), 1)
        shown = self.folds.measure_shown(fitted.predict(part.some_trained(SHOWN_ROWS)[0]), part)
        return prediction, shown, Cost(training.seconds, numbers, latency), arrays

    def _pool(self, predictions: Sequence[Tensor], parts: Sequence[Part]) -> dict[str, float]:
        """The values over all rows of a repeat together, mean over repeats."""
        names, size = self.folds.pooled("columns", inner=False), self.folds.per_repeat
        found = [
            self.folds.measure_rows(
                names, torch.cat(list(predictions[at : at + size])), parts[at : at + size]
            )
            for at in range(0, len(parts), size)
        ]
        return {name: statistics.fmean(values[name] for values in found) for name in names}
