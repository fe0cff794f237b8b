"""Decision trees and forests of scikit-learn: fitted by it, kept as arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.models import estimators
from workers.models.base import Arrays, EstimatorModel
from workers.models.estimators import Rows
from workers.models.trees import Trees


@dataclass(frozen=True)
class Grown:
    """See `base.Fitted`: as scikit-learn made it, a tree or a forest."""

    model: Any
    classified: bool

    def predict(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        model = self.model
        found: NDArray[np.float64]
        found = model.predict_proba(inputs) if self.classified else model.predict(inputs)
        return found.reshape(len(inputs), -1)

    def arrays(self) -> Arrays:
        grown = getattr(self.model, "estimators_", [self.model])
        return Trees.of([_tree(each.tree_) for each in grown]).arrays()


@dataclass(frozen=True)
class Averaged:
    """See `base.Fitted`: the mean over trees, from their arrays."""

    trees: Trees

    def predict(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.zeros((len(inputs), self.trees.value.shape[1]))
        # scikit-learn grows its trees on numbers of single precision.
        for value in self.trees.values(inputs.astype(np.float32)):
            total += value
        return total / len(self.trees.roots)

    def arrays(self) -> Arrays:
        return self.trees.arrays()


def family(make: Callable[[Any, Rows], Any]) -> EstimatorModel:
    """A family of the classifier or regressor that `make(settings, rows)` gives."""

    def learn(settings: Any, rows: Rows) -> Grown:
        model = make(settings, rows)
        model.fit(rows.inputs, rows.flat_target, sample_weight=rows.weights)
        return Grown(model, rows.classified)

    def recall(settings: Any, arrays: Arrays) -> Averaged:
        return Averaged(Trees.restore(arrays))

    return estimators.family(learn, recall)


def _tree(tree: Any) -> Trees:
    """Values are (nodes, 1, classes), shares of the classes, or (nodes, targets, 1)."""
    return Trees.one(
        left=tree.children_left,
        right=tree.children_right,
        leaf=tree.children_left < 0,
        feature=tree.feature,
        threshold=tree.threshold,
        value=tree.value.reshape(tree.node_count, -1),
    )
