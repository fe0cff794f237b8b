"""What a model family gives to the training loop."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpo_service import protocol
from workers.data.layouts import Layout

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Shape:
    """What a network is built for: what goes in, what comes out, and how to compute.

    `inputs` columns of a row; `outputs` classes or numbers, for each step where `per_step`. `dims`
    is the form of structured rows, (channels, height, width), (steps, channels) or (steps,), and
    empty for a table; `symbols` counts the codes of symbols, padding 0 and unknown 1 included;
    `blocks` are the columns [start, stop) that are one category each.
    """

    task: protocol.Task
    inputs: int
    outputs: int
    dtype: torch.dtype
    device: torch.device
    dims: tuple[int, ...] = ()
    symbols: int = 0
    per_step: bool = False
    blocks: tuple[tuple[int, int], ...] = ()


class Network(Protocol):
    """Networks that fit into one pass, one a lane.

    `parameters` and `gradient` are (lanes, numbers): a row holds all of one lane's weights, so an
    optimizer is one formula for all lanes and dropping lanes is one selection. `statistics` are
    numbers that no gradient moves, such as running means, (lanes, ...). `sizes` (lanes, 1) says how
    many numbers of a row are real; the others are padding, 0 like their gradients. `spans` bounds
    by lane where in a row they stand, None where that is all of it. What a lane
    draws comes from its own generator alone: it computes the same, whatever it is packed with.
    """

    rates: Tensor | None
    parameters: Tensor
    gradient: Tensor
    sizes: Tensor
    statistics: dict[str, Tensor]

    @property
    def spans(self) -> Sequence[int] | None:
        """See above."""

    def start_epoch(self, steps: Sequence[int]) -> None:
        """Each lane is about to take its number of steps; the numbers may differ."""

    def learn(self, step: int, inputs: Tensor, target: Tensor, weights: Tensor | float) -> Tensor:
        """Set `gradient`; the loss of each row, (lanes, rows).

        `inputs` (lanes, rows, columns); `target` (lanes, rows) class codes, (lanes, rows, targets)
        or (lanes, rows, steps) codes; `weights` of the rows, (lanes, rows), or one for all. A row
        of weight 0 is padding: nothing may depend on it.
        """

    def predict(self, inputs: Tensor) -> Tensor:
        """Logits or scaled numbers, (lanes, rows, outputs or steps * outputs)."""

    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with these lanes only."""

    def unpack(self, flat: Tensor, lane: int) -> Arrays:
        """A lane's row of a (lanes, numbers) tensor as named arrays, without padding."""

    def pack(self, arrays: Arrays, flat: Tensor, lane: int) -> None:
        """Write what `unpack` gave into a lane's row."""

    def arrays(self, lane: int) -> Arrays:
        """A lane's weights and statistics by name, to be stored with a model."""

    def restore(self, arrays: Arrays, lane: int) -> None:
        """Make a lane predict as the one that gave these `arrays`; KeyError, ValueError or
        RuntimeError where they are of another network.
        """


@dataclass(frozen=True)
class Size:
    """What a lane needs: `numbers` weights, and `values` computed for a row of inputs."""

    numbers: int
    values: int


@dataclass(frozen=True)
class NetworkModel:
    """A family trained by epochs. Settings of equal `shape` can be lanes of one `build`.

    `order`: lanes sorted by it are computed faster, where the family can use that.
    `probes`: for each kind of network of this family (`kind(settings)`) settings from small to
    large on which a machine tries whether lanes are faster in one pass or one after another; a
    kind without probes always runs in one pass.
    `exact`: settings under which `gradient` is the derivative of the loss that `learn` gives, for
    families that otherwise take part of their network for given; `opposed`: how the names of
    weights begin that descend a loss of their own instead.
    """

    shape: Callable[[Any], Hashable]
    build: Callable[[Sequence[Any], Sequence[np.random.Generator], Shape], Network]
    size: Callable[[Any, Shape], Size]
    layout: Layout = "columns"
    order: Callable[[Any], Any] | None = None
    kind: Callable[[Any], str] = lambda settings: ""
    probes: tuple[tuple[Any, Shape], ...] = ()
    exact: Mapping[str, Any] = field(default_factory=dict)
    opposed: tuple[str, ...] = ()


class Fitted(Protocol):
    """A model fitted at once."""

    def predict(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities (rows, classes), or numbers (rows, targets)."""

    def arrays(self) -> Arrays:
        """What was fitted, by name, to be stored with a model."""


@dataclass(frozen=True)
class EstimatorModel:
    """A family fitted at once: `fit(settings, inputs, target, outputs)`, targets unscaled;
    `restore(settings, arrays, outputs)` makes what gave these `Fitted.arrays`.
    """

    fit: Callable[[Any, NDArray[np.float64], NDArray[Any], int], Fitted]
    restore: Callable[[Any, Arrays, int], Fitted]


Model = NetworkModel | EstimatorModel
