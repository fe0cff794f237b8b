"""The perceptron: the multilayer perceptron's last layer alone, with a loss of its own.

What it predicts is the class of the largest weighted sum. The sums themselves stand as logits, so
that metrics of probabilities stay finite; only the surrogate rule makes them mean something.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from hpo_service.catalog.perceptron import PerceptronHyperparameters
from workers.models import mlp
from workers.models.base import NetworkModel, Shape, Size
from workers.models.mlp_losses import OutputLoss, PerceptronCriterion
from workers.models.mlp_stacks import Design


def asked(settings: PerceptronHyperparameters) -> mlp.Asked:
    """A network without hidden layers."""
    return mlp.Asked(Design((), "step", bias=settings.bias))


class Perceptron(mlp.Mlp):
    """Lanes of one rule; see `base.Network`."""

    def __init__(
        self,
        settings: Sequence[PerceptronHyperparameters],
        rngs: Sequence[np.random.Generator],
        shape: Shape,
    ) -> None:
        self._by_mistakes = settings[0].rule == "perceptron"
        super().__init__(settings, rngs, shape)

    def asked(self, settings: Any) -> mlp.Asked:
        return asked(settings)

    def loss(self, outputs: Tensor) -> OutputLoss:
        return PerceptronCriterion(outputs) if self._by_mistakes else super().loss(outputs)


def shape(settings: PerceptronHyperparameters) -> Hashable:
    """What two settings must share to be lanes of one pass."""
    return settings.rule


def size(settings: PerceptronHyperparameters, shape: Shape) -> Size:
    """What a lane needs."""
    return mlp.sized(asked(settings), shape)


MODEL = NetworkModel(shape=shape, build=Perceptron, size=size)
