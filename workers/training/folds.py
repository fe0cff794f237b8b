"""The splits of the search rows as tensors, and what is measured on them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpo_service import catalog, protocol
from workers import generation, metrics
from workers.data.dataset import Dataset
from workers.data.folds import Rows, per_repeat, shortened, splits
from workers.data.layouts import Layout
from workers.data.parts import SHOWN_ROWS, Part, Scored, Table, flatten_steps, split
from workers.models import MODELS, NetworkModel
from workers.training import pooling

Key = tuple[Layout, bool]


@dataclass(frozen=True)
class Folds:
    """Made once for a pack; each form of the rows (layout, with inner rows or without) when it is
    first asked for. `train_share`: of the training rows of each split, those that are used.
    """

    dataset: Dataset
    validation: protocol.Validation
    study_seed: int
    optimised: list[str]
    recorded: list[str]
    device: torch.device
    dtype: torch.dtype = torch.float32
    train_share: float = 1.0
    _parts: dict[Key, list[Part]] = field(default_factory=dict)
    _tables: dict[Key, Table] = field(default_factory=dict)
    _generations: list[generation.Generation] = field(default_factory=list)
    _pooled: dict[tuple[Key, Scored], list[str]] = field(default_factory=dict)

    @cached_property
    def per_repeat(self) -> int:
        """Parts of one repeat."""
        return per_repeat(self.dataset, self.validation)

    def parts(self, layout: Layout, inner: bool) -> list[Part]:
        """The parts in the order (repeat, fold)."""
        key = (layout, inner)
        if key not in self._parts:
            self._parts[key] = split(self.dataset, self._splits(), layout, inner, self.study_seed)
        return self._parts[key]

    def _splits(self) -> Iterator[tuple[Rows, Rows]]:
        found = splits(self.dataset, self.validation, self.study_seed)
        for at, (train, valid) in enumerate(found):
            seed = (self.study_seed, at)
            yield shortened(self.dataset, train, self.train_share, seed), valid

    def table(self, layout: Layout, inner: bool) -> Table:
        """The parts as tensors."""
        key = (layout, inner)
        if key not in self._tables:
            parts = self.parts(layout, inner)
            self._tables[key] = Table.of(self.dataset.schema, parts, self.dtype, self.device)
        return self._tables[key]

    @property
    def generations(self) -> list[generation.Generation]:
        """What generated rows are held against, part by part; made when first asked for."""
        if not self._generations:
            for at, part in enumerate(self.parts("structured", inner=False)):
                made = generation.Generation(part, self.study_seed + at, self.device)
                self._generations.append(made)
        return self._generations

    @property
    def generating(self) -> bool:
        """Whether rows are to be made, not predicted."""
        return self.optimised[0] in generation.MEASURES

    @cached_property
    def scored(self) -> list[Rows]:
        """Which rows each part scores."""
        return [valid for _, valid in splits(self.dataset, self.validation, self.study_seed)]

    def counts(self, family: str, inner: bool) -> list[int]:
        """Training rows of each part, as the family sees them."""
        model = MODELS[family]
        layout = model.layout if isinstance(model, NetworkModel) else "columns"
        return self.table(layout, inner).counts

    def pooled(self, layout: Layout, inner: bool, which: Scored = "valid") -> list[str]:
        """The metrics whose value is taken over all rows of a repeat together."""
        key = ((layout, inner), which)
        if key not in self._pooled:
            names = self.measured if which == "valid" else self.watched
            found = [getattr(part, f"{which}_target") for part in self.parts(layout, inner)]
            weighted = self.dataset.weight is not None
            self._pooled[key] = pooling.pooled(names, found, self.per_repeat, weighted)
        return self._pooled[key]

    def notes(self, layout: Layout, inner: bool) -> dict[str, list[str] | float]:
        """How many rows a part trains on, their mean; which metrics are pooled, where some are."""
        rows = statistics.fmean(len(part.train_inputs) for part in self.parts(layout, inner))
        found = self.pooled(layout, inner)
        return {"train_rows": rows} | ({"pooled": found} if found else {})

    def measure(
        self,
        names: Sequence[str],
        prediction: Tensor,
        table: Table,
        parts: Sequence[int],
        which: Scored,
    ) -> dict[str, Tensor]:
        """The named metrics of each lane, (lanes,), on the rows that score its part."""
        target, mask = table.scored(which)
        return _measure(names, prediction, target[list(parts)], mask[list(parts)])

    def measure_pooled(
        self, names: Sequence[str], prediction: Tensor, table: Table, which: Scored
    ) -> dict[str, float]:
        """The named metrics over all rows of a repeat together, mean over repeats and `sets`.

        `prediction` (sets, parts, rows, outputs).
        """
        sets, repeats = len(prediction), prediction.shape[1] // self.per_repeat
        target, mask = (
            # Rows of all parts of a repeat below each other, for each set again.
            each.reshape(repeats, -1, *each.shape[2:]).repeat(sets, *[1] * (each.dim() - 1))
            for each in table.scored(which)
        )
        together = prediction.reshape(sets * repeats, -1, prediction.shape[-1])
        found = _measure(names, together, target, mask)
        return {name: float(values.mean()) for name, values in found.items()}

    def measure_rows(
        self, names: Sequence[str], prediction: Tensor, parts: Sequence[Part]
    ) -> dict[str, float]:
        """The named metrics of one prediction, (rows, outputs), of the rows of parts together."""
        target = torch.from_numpy(np.concatenate([part.valid_target for part in parts]))
        weights = [part.valid_weight for part in parts if part.valid_weight is not None]
        mask = np.concatenate(weights) if weights else np.ones(len(target))
        found = _measure(names, prediction[None], target[None], torch.from_numpy(mask)[None])
        return {name: float(value[0]) for name, value in found.items()}

    def measure_shown(self, prediction: NDArray[np.float64], part: Part) -> float:
        """The first metric of predictions of the part's rows that are shown again."""
        _, target, weight = part.some_trained(SHOWN_ROWS)
        mask = torch.from_numpy(np.ones(len(target)) if weight is None else weight)
        (name,) = self.optimised[:1]
        said = torch.from_numpy(prediction)
        found = _measure([name], said[None], torch.from_numpy(target)[None], mask[None])
        return float(found[name][0])

    @property
    def measured(self) -> list[str]:
        """All metrics but costs: those optimised first, then those only recorded."""
        return [name for name in self.named if not catalog.METRICS[name].cost]

    @property
    def costs(self) -> list[str]:
        """The metrics that say what a setting takes."""
        return [name for name in self.named if catalog.METRICS[name].cost]

    @property
    def named(self) -> list[str]:
        """All metrics: those optimised first, then those only recorded."""
        return self.optimised + self.recorded

    @property
    def watched(self) -> list[str]:
        """The metric that early stopping watches."""
        return self.optimised[:1]


def _measure(
    names: Sequence[str], prediction: Tensor, target: Tensor, mask: Tensor
) -> dict[str, Tensor]:
    """(lanes,) by name; targets with a class for each step are (lanes, rows, steps) codes."""
    if target.dim() == 3 and not target.is_floating_point():
        prediction, target, mask = flatten_steps(prediction, target, mask)
    return metrics.measure(names, prediction, target, mask)
