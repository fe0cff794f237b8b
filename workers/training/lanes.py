"""Lanes: equal-shaped networks that train in one pass, each on its own rows with its own settings.

A lane computes the same whatever it is packed with: its draws come from its own generator, and
batches that are shorter for some lanes are padded with rows of weight 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workers.data.parts import Table
from workers.models.base import Arrays, NetworkModel, Shape
from workers.training.optimizers import OPTIMIZERS


@dataclass(frozen=True)
class Lane:
    """One network to train: its settings, the part of the table with its rows, its draws."""

    settings: Any
    part: int
    rng: np.random.Generator


@dataclass(frozen=True)
class Batch:
    """One step of all lanes: `rows` (lanes * most rows,) of the table; `counts` real rows of each
    lane, in front; None where every lane has all of them.
    """

    rows: Tensor
    counts: list[int] | None


class Lanes:
    """The networks of some lanes, whose settings agree in `shape` and batch size."""

    def __init__(self, model: NetworkModel, lanes: Sequence[Lane], table: Table) -> None:
        self._lanes, self._table = list(lanes), table
        settings = [lane.settings for lane in lanes]
        shape = Shape(
            table.task,
            table.width,
            table.outputs,
            table.train_inputs.dtype,
            table.train_inputs.device,
            table.dims,
            table.symbols,
            table.per_step,
            table.blocks,
        )
        self.network = model.build(settings, [lane.rng for lane in lanes], shape)
        self._optimizer = OPTIMIZERS[settings[0].optimizer](
            settings, self.network.parameters, self.network.rates
        )
        self._batch_size = int(settings[0].batch_size)
        self._inputs: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._lanes)

    def epoch(self) -> Tensor:
        """Train once on every row; the mean loss of each lane on the way, (lanes,)."""
        counts = self._counts()
        self.network.start_epoch([-(-count // self._batch_size) for count in counts])
        total = torch.zeros(len(self), dtype=torch.float64, device=self._table.valid_mask.device)
        for step, batch in enumerate(self._batches(counts)):
            total += self._step(step, batch)
        return total / torch.tensor(counts, device=total.device)

    def predict(self) -> Tensor:
        """Probabilities or numbers on the validation rows, (lanes, rows, outputs), float64."""
        table, parts = self._table, [lane.part for lane in self._lanes]
        found = self.network.predict(table.valid_inputs[parts]).double()
        if table.task == "classification":
            return torch.softmax(found, dim=2)
        return found * table.target_scale[parts] + table.target_mean[parts]

    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with these lanes only; nothing changes for them."""
        self._lanes = [self._lanes[lane] for lane in lanes]
        self.network.keep(lanes)
        self._optimizer.keep(lanes)
        self._inputs.clear()

    def arrays(self, lane: int) -> Arrays:
        """A lane's weights by name."""
        return self.network.arrays(lane)

    def _counts(self) -> list[int]:
        return [self._table.counts[lane.part] for lane in self._lanes]

    def _batches(self, counts: list[int]) -> Iterator[Batch]:
        """Every row once, in each lane's own order; lanes with fewer rows end earlier."""
        most, size = max(counts), self._batch_size
        order = np.zeros((len(counts), most), dtype=np.int64)
        for at, (lane, count) in enumerate(zip(self._lanes, counts, strict=True)):
            order[at] = self._table.offsets[lane.part]
            order[at, :count] += lane.rng.permutation(count)
        rows = torch.from_numpy(order).to(self._table.train_inputs.device)
        full = min(counts) // size
        # Laid out step by step, so that the rows of a step are one piece of memory.
        whole = rows[:, : full * size].reshape(len(self), full, size).transpose(0, 1)
        for some in whole.flatten(1):
            yield Batch(some, None)
        for start in range(full * size, most, size):
            left = [min(max(count - start, 0), size) for count in counts]
            yield Batch(rows[:, start : start + max(left)].flatten(), left)

    def _step(self, step: int, batch: Batch) -> Tensor:
        lanes, network = len(self), self.network
        inputs = self._gather(batch.rows)
        target = self._table.train_target.index_select(0, batch.rows)
        target = target.view(lanes, -1, *target.shape[1:])
        weights, idle = self._weights(batch, inputs)
        losses = network.learn(step, inputs, target, weights)
        self._optimizer.step(network.parameters, network.gradient, idle)
        if isinstance(weights, Tensor):
            losses = losses * (weights > 0)
        return losses.sum(1)

    def _gather(self, rows: Tensor) -> Tensor:
        table = self._table.train_inputs
        if len(rows) not in self._inputs:
            self._inputs[len(rows)] = table.new_empty(len(rows), table.shape[1])
        buffer = torch.index_select(table, 0, rows, out=self._inputs[len(rows)])
        return buffer.view(len(self), -1, table.shape[1])

    def _weights(self, batch: Batch, inputs: Tensor) -> tuple[Tensor | float, list[int]]:
        """What a row counts in its lane's mean loss, and the lanes that have no row left."""
        rows = inputs.shape[1]
        if batch.counts is None or min(batch.counts) == rows:
            return 1 / rows, []
        weights = np.zeros((len(self), rows))
        for at, count in enumerate(batch.counts):
            weights[at, :count] = 1 / max(count, 1)
        idle = [at for at, count in enumerate(batch.counts) if count == 0]
        return torch.from_numpy(weights).to(inputs), idle
