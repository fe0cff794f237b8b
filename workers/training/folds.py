"""The splits of the search rows as tensors, and what is measured on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from hpo_service import protocol
from workers import generation, metrics
from workers.data.dataset import Dataset
from workers.data.folds import Rows, splits
from workers.data.layouts import Layout
from workers.data.parts import Part, Table, flatten_steps, split
from workers.models import MODELS, NetworkModel

Key = tuple[Layout, bool]


@dataclass(frozen=True)
class Folds:
    """Made once for a pack; each form of the rows (layout, with inner rows or without) when it is
    first asked for.
    """

    dataset: Dataset
    validation: protocol.Validation
    study_seed: int
    optimised: list[str]
    recorded: list[str]
    device: torch.device
    dtype: torch.dtype = torch.float32
    _parts: dict[Key, list[Part]] = field(default_factory=dict)
    _tables: dict[Key, Table] = field(default_factory=dict)
    _generations: list[generation.Generation] = field(default_factory=list)

    def parts(self, layout: Layout, inner: bool) -> list[Part]:
        """The parts in the order (repeat, fold)."""
        key = (layout, inner)
        if key not in self._parts:
            found = splits(self.dataset, self.validation, self.study_seed)
            self._parts[key] = split(self.dataset, found, layout, inner, self.study_seed)
        return self._parts[key]

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

    def measure(
        self,
        names: Sequence[str],
        prediction: Tensor,
        table: Table,
        parts: Sequence[int],
        which: str,
    ) -> dict[str, Tensor]:
        """The named metrics of each lane, (lanes,), on the rows that score its part."""
        target, mask = table.valid_target, table.valid_mask
        if which == "inner":
            assert table.inner_target is not None
            assert table.inner_mask is not None
            target, mask = table.inner_target, table.inner_mask
        target, mask = target[list(parts)], mask[list(parts)]
        if table.per_step:
            prediction, target, mask = flatten_steps(prediction, target, mask)
        return metrics.measure(names, prediction, target, mask)

    def measure_rows(self, prediction: Tensor, target: Tensor) -> dict[str, float]:
        """All metrics of one prediction, (rows, outputs)."""
        mask = torch.ones(1, len(target), dtype=torch.float64)
        found = metrics.measure(self.measured, prediction[None], target[None], mask)
        return {name: float(value[0]) for name, value in found.items()}

    @property
    def measured(self) -> list[str]:
        """All metrics: those optimised first, then those only recorded."""
        return self.optimised + self.recorded
