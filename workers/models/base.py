"""What a model family gives to the training loop."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpo_service import protocol

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Shape:
    """What a network is built for: columns in, classes or numbers out, and how to compute."""

    task: protocol.Task
    inputs: int
    outputs: int
    dtype: torch.dtype
    device: torch.device


class Network(Protocol):
    """Equal-shaped networks, one a lane, trained in one pass.

    `parameters` and `gradient` are (lanes, numbers): a row holds all of one lane's weights, so an
    optimizer is one formula for all lanes and dropping lanes is one selection. What a lane draws
    comes from its own generator alone: it computes the same, whatever it is packed with.
    """

    parameters: Tensor
    gradient: Tensor

    def start_epoch(self, steps: Sequence[int]) -> None:
        """Each lane is about to take its number of steps; the numbers may differ."""

    def learn(self, step: int, inputs: Tensor, target: Tensor, weights: Tensor | float) -> Tensor:
        """Set `gradient`; the loss of each row, (lanes, rows).

        `inputs` (lanes, rows, columns); `target` (lanes, rows) class codes or
        (lanes, rows, targets); `weights` of the rows, (lanes, rows), or one for all.
        """

    def predict(self, inputs: Tensor) -> Tensor:
        """Logits or scaled numbers, (lanes, rows, outputs), for (lanes, rows, columns)."""

    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with these lanes only."""

    def arrays(self, lane: int) -> Arrays:
        """A lane's weights by name, to be stored with a model."""


@dataclass(frozen=True)
class NetworkModel:
    """A family trained by epochs. Settings of equal `shape` can be lanes of one `build`."""

    shape: Callable[[Any], Hashable]
    build: Callable[[Sequence[Any], Sequence[np.random.Generator], Shape], Network]


class Fitted(Protocol):
    """A model fitted at once."""

    def predict(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities (rows, classes), or numbers (rows, targets)."""

    def arrays(self) -> Arrays:
        """What was fitted, by name, to be stored with a model."""


@dataclass(frozen=True)
class EstimatorModel:
    """A family fitted at once: `fit(settings, inputs, target, outputs)`, targets unscaled."""

    fit: Callable[[Any, NDArray[np.float64], NDArray[Any], int], Fitted]


Model = NetworkModel | EstimatorModel
