"""Lanes: networks that train in one pass, each on its own rows with its own settings.

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

from hpo_service import errors
from workers.data.parts import Scored, Table
from workers.models import outputs
from workers.models.base import Arrays, NetworkModel, Shape
from workers.training.optimizers import optimizer
from workers.training.penalties import penalties


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


@dataclass(frozen=True)
class State:
    """All that a lane needs to go on at the end of an epoch: arrays by name, and its draws.

    Names begin with `weights.`, `statistics.` or `optimizer.<name>.`, without padding, so that the
    lane may go on in other company.
    """

    arrays: Arrays
    steps: int
    rng: dict[str, Any]


class Lanes:
    """The networks of some lanes, whose settings agree in `shape` and batch size."""

    def __init__(self, model: NetworkModel, lanes: Sequence[Lane], table: Table) -> None:
        self._lanes, self._table = list(lanes), table
        settings = [lane.settings for lane in lanes]
        self.network = model.build(settings, [lane.rng for lane in lanes], shape_of(table))
        network = self.network
        self._optimizer = optimizer(settings, network.parameters, network.rates, network.spans)
        self._penalties = penalties(settings, self.network.sizes)
        self._batch_size = int(settings[0].batch_size)
        self._balance = _balance(self._lanes, table)
        self._inputs: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._lanes)

    def scale(self, factors: Sequence[float]) -> None:
        """Each lane's learning rate is its setting times its factor from now on."""
        self._optimizer.scale(factors)

    def epoch(self, steps: Sequence[int | None] | None = None) -> Tensor:
        """Train once on every row, or for at most so many steps; the mean loss of each lane on
        the way, (lanes,).
        """
        counts = self._counts(steps)
        self.network.start_epoch([-(-count // self._batch_size) for count in counts])
        total = torch.zeros(len(self), dtype=torch.float64, device=self._table.valid_mask.device)
        for step, batch in enumerate(self._batches(counts)):
            total += self._step(step, batch)
        return total / torch.tensor(counts, device=total.device).clamp_min(1)

    def predict(self, which: Scored = "valid") -> Tensor:
        """Probabilities or numbers on rows that score, (lanes, rows, outputs), float64.

        With a class for each step: (lanes, rows * steps, classes).
        """
        table, parts = self._table, [lane.part for lane in self._lanes]
        mean, scale = table.target_mean[parts], table.target_scale[parts]
        found = self.network.predict(table.inputs(which)[parts])
        return outputs.said(found, table.task, table.outputs, mean, scale)

    def keep(self, lanes: Sequence[int]) -> None:
        """Go on with these lanes only; nothing changes for them."""
        self._lanes = [self._lanes[lane] for lane in lanes]
        self.network.keep(lanes)
        self._optimizer.keep(lanes)
        self._penalties.keep(lanes)
        if self._balance is not None:
            self._balance = self._balance[list(lanes)]
        self._inputs.clear()

    def arrays(self, lane: int) -> Arrays:
        """A lane's weights and statistics by name."""
        return self.network.arrays(lane)

    def state(self, lane: int) -> State:
        """A lane's state between epochs."""
        network = self.network
        named = {"weights": network.unpack(network.parameters, lane)}
        flat = torch.zeros_like(network.parameters)
        for name, moved in self._optimizer.state_of(lane).items():
            flat[lane, : len(moved)] = moved
            named[f"optimizer.{name}"] = network.unpack(flat, lane)
        arrays = {f"{of}.{name}": a for of, found in named.items() for name, a in found.items()}
        statistics = {n: t[lane].cpu().numpy().copy() for n, t in network.statistics.items()}
        arrays |= {f"statistics.{name}": array for name, array in statistics.items()}
        rng = _plain(self._lanes[lane].rng.bit_generator.state)
        return State(arrays, self._optimizer.steps_of(lane), rng)

    def load(self, lane: int, state: State) -> None:
        """Put a lane where another one stood; KeyError or ValueError where it does not fit."""
        network = self.network
        flat = torch.zeros_like(network.parameters)
        with torch.inference_mode():
            network.pack(_below("weights", state.arrays), network.parameters, lane)
            moved = {}
            for name, numbers in self._optimizer.state_of(lane).items():
                network.pack(_below(f"optimizer.{name}", state.arrays), flat, lane)
                moved[name] = flat[lane, : len(numbers)].clone()
            self._optimizer.load(lane, moved, state.steps)
            for name, tensor in network.statistics.items():
                tensor[lane] = torch.from_numpy(state.arrays[f"statistics.{name}"]).to(tensor)
        self._lanes[lane].rng.bit_generator.state = _numpy(state.rng)

    def _counts(self, steps: Sequence[int | None] | None = None) -> list[int]:
        """Rows that each lane trains on in this epoch."""
        counts = [self._table.counts[lane.part] for lane in self._lanes]
        if steps is None:
            return counts
        limits = zip(counts, steps, strict=True)
        return [c if most is None else min(c, most * self._batch_size) for c, most in limits]

    def _batches(self, counts: list[int]) -> Iterator[Batch]:
        """Every row once, in each lane's own order; lanes with fewer rows end earlier."""
        most, size = max(counts), self._batch_size
        order = np.zeros((len(counts), most), dtype=np.int64)
        for at, (lane, count) in enumerate(zip(self._lanes, counts, strict=True)):
            order[at] = self._table.offsets[lane.part]
            order[at, :count] += lane.rng.permutation(self._table.counts[lane.part])[:count]
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
        counted = (weights > 0).to(inputs) if isinstance(weights, Tensor) else None
        if self._table.train_weight is not None:
            told = self._table.train_weight.index_select(0, batch.rows).view(lanes, -1)
            weights = weights * told
            counted = told if counted is None else counted * told
        if self._balance is not None:
            weights = weights * self._balance.gather(1, target)
        losses = network.learn(step, inputs, target, weights)
        self._penalties.apply(network.parameters, network.gradient)
        self._optimizer.step(network.parameters, network.gradient, idle)
        if counted is not None:
            losses = losses * counted
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


def shape_of(table: Table) -> Shape:
    """What a network for the rows of a table is built for."""
    structured = table.layout == "structured"
    return Shape(
        task=table.task,
        inputs=table.width,
        outputs=table.outputs,
        dtype=table.train_inputs.dtype,
        device=table.train_inputs.device,
        dims=table.dims if structured else (),
        symbols=table.symbols if structured else 0,
        per_step=table.per_step,
        blocks=table.blocks,
    )


def _balance(lanes: Sequence[Lane], table: Table) -> Tensor | None:
    """What a row counts by its class, (lanes, classes); None where all count alike.

    As scikit-learn's `class_weight="balanced"`: rows / (classes * rows of the class).
    """
    if all(lane.settings.class_weights == "none" for lane in lanes):
        return None
    if table.task != "classification" or table.per_step:
        raise errors.invalid(
            "params.class_weights", "only rows with one class each can be balanced"
        )
    found = table.train_inputs.new_ones(len(lanes), table.outputs)
    for at, lane in enumerate(lanes):
        if lane.settings.class_weights == "balanced":
            start, count = table.offsets[lane.part], table.counts[lane.part]
            sizes = torch.bincount(
                table.train_target[start : start + count], minlength=table.outputs
            )
            found[at] = count / ((sizes > 0).sum() * sizes.clamp_min(1))
    return found


def _below(prefix: str, arrays: Arrays) -> Arrays:
    start = f"{prefix}."
    return {n.removeprefix(start): array for n, array in arrays.items() if n.startswith(start)}


def _plain(state: Any) -> Any:
    """A generator's state as JSON can hold it."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state


def _numpy(state: dict[str, Any]) -> dict[str, Any]:
    words = np.array(state["state"]["state"], dtype=np.uint64)
    return state | {"state": state["state"] | {"state": words}}
