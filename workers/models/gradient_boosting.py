"""Gradient boosting of trees: scikit-learn's on histograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from hpo_service.catalog.gradient_boosting import GradientBoostingHyperparameters
from workers.models import estimators
from workers.models.base import Arrays
from workers.models.estimators import Rows
from workers.models.trees import Trees


@dataclass(frozen=True)
class Boosted:
    """See `base.Fitted`: as scikit-learn made it, a classifier or a regressor for each target."""

    models: Sequence[Any]
    classified: bool

    def predict(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.classified:
            found: NDArray[np.float64] = self.models[0].predict_proba(inputs)
            return found
        return np.column_stack([model.predict(inputs) for model in self.models])

    def arrays(self) -> Arrays:
        """Beside the nodes: which output each tree adds to, and what they are added to."""
        # The trees of a model, as many in each iteration as it has outputs.
        grown = [[tree for each in model._predictors for tree in each] for model in self.models]
        outputs = [np.arange(len(trees)) % self._outputs for trees in grown]
        if not self.classified:
            outputs = [np.full(len(trees), at) for at, trees in enumerate(grown)]
        baseline = np.concatenate([m._baseline_prediction.ravel() for m in self.models])
        trees = Trees.of([_tree(tree.nodes) for trees in grown for tree in trees])
        return trees.arrays() | {"output": np.concatenate(outputs), "baseline": baseline}

    @property
    def _outputs(self) -> int:
        per_iteration: int = self.models[0].n_trees_per_iteration_
        return per_iteration


@dataclass(frozen=True)
class Summed:
    """See `base.Fitted`: the sum of trees, from their arrays.

    `output` (trees,); `baseline` (outputs,): logits of the classes, of two classes of the second
    alone, or numbers.
    """

    trees: Trees
    output: NDArray[np.int64]
    baseline: NDArray[np.float64]
    classified: bool

    def predict(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.tile(self.baseline, (len(inputs), 1))
        for output, value in zip(self.output, self.trees.values(inputs), strict=True):
            total[:, output] += value[:, 0]
        return estimators.probabilities(total) if self.classified else total

    def arrays(self) -> Arrays:
        return self.trees.arrays() | {"output": self.output, "baseline": self.baseline}


def learn(settings: GradientBoostingHyperparameters, rows: Rows) -> Boosted:
    """One classifier, or a regressor for each target."""
    given = settings.of_model() | {"random_state": rows.seed, "early_stopping": False}
    if rows.classified:
        kind, targets = HistGradientBoostingClassifier, [rows.target]
    else:
        kind, targets = HistGradientBoostingRegressor, list(rows.target.T)
    fitted = [kind(**given).fit(rows.inputs, each, sample_weight=rows.weights) for each in targets]
    return Boosted(fitted, rows.classified)


def recall(settings: GradientBoostingHyperparameters, arrays: Arrays) -> Summed:
    """The model of its arrays."""
    trees = Trees.restore(arrays)
    return Summed(trees, arrays["output"], arrays["baseline"], "classes" in arrays)


def _tree(nodes: NDArray[Any]) -> Trees:
    return Trees.one(
        left=nodes["left"],
        right=nodes["right"],
        leaf=nodes["is_leaf"].astype(bool),
        feature=nodes["feature_idx"],
        threshold=nodes["num_threshold"],
        value=nodes["value"][:, None],
    )


MODEL = estimators.family(learn, recall)
