"""What the families that scikit-learn fits have in common: how rows and classes reach them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.exceptions import ConvergenceWarning

from workers.models.base import Arrays, EstimatorModel, Fitted, Weights

# Before the names of a classifier's arrays: without its classes it is no regression.
MODEL = "model."


@dataclass(frozen=True)
class Rows:
    """Training rows: `inputs` (rows, columns); `target` codes (rows,) of two classes or more, from
    0 on and each of them there, or numbers (rows, targets); `weights` (rows,) above 0, or None.
    """

    inputs: NDArray[np.float64]
    target: NDArray[Any]
    weights: Weights
    seed: int

    @property
    def classified(self) -> bool:
        """Whether the targets are codes."""
        return self.target.ndim == 1

    @property
    def flat_target(self) -> NDArray[Any]:
        """The target as scikit-learn wants it: one number of a row is no column."""
        return self.target if self.target.shape[-1] > 1 else self.target.ravel()


@dataclass(frozen=True)
class OfClasses:
    """A classifier: its model knows the classes that the training rows have, `classes`; the others
    of `outputs` get probability 0. Of one class alone there is no model: it is certain.
    """

    model: Fitted | None
    classes: NDArray[np.int64]
    outputs: int

    def predict(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        found = np.zeros((len(inputs), self.outputs))
        found[:, self.classes] = self.model.predict(inputs) if self.model else 1.0
        return found

    def arrays(self) -> Arrays:
        own = self.model.arrays() if self.model else {}
        return {"classes": self.classes} | {MODEL + name: array for name, array in own.items()}


def family(
    learn: Callable[[Any, Rows], Fitted], recall: Callable[[Any, Arrays], Fitted]
) -> EstimatorModel:
    """A family of `learn(settings, rows)` and of what makes its model of the arrays again.

    A classifier's arrays have `classes` among them, a regression's have not.
    """

    def fit(
        settings: Any,
        inputs: NDArray[np.float64],
        target: NDArray[Any],
        outputs: int,
        seed: int,
        weights: Weights,
    ) -> Fitted:
        if target.ndim > 1:
            return learn(settings, Rows(inputs, target, weights, seed))
        classes, codes = np.unique(target, return_inverse=True)
        several = len(classes) > 1
        model = learn(settings, Rows(inputs, codes, weights, seed)) if several else None
        return OfClasses(model, classes, outputs)

    def restore(settings: Any, arrays: Arrays, outputs: int) -> Fitted:
        if "classes" not in arrays:
            return recall(settings, arrays)
        classes = arrays["classes"]
        own = {n.removeprefix(MODEL): a for n, a in arrays.items() if n.startswith(MODEL)}
        several = own or len(classes) > 1
        model = recall(settings, own | {"classes": classes}) if several else None
        return OfClasses(model, classes, outputs)

    return EstimatorModel(fit, restore)


def probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each class, (rows, classes); of two classes the second's logit alone is given."""
    if logits.shape[1] == 1:
        return expit(np.hstack([-logits, logits]))
    found: NDArray[np.float64] = softmax(logits, axis=1)
    return found


@contextmanager
def converging() -> Iterator[None]:
    """`max_iter` is a hyperparameter: a solver that was stopped by it did what was asked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
