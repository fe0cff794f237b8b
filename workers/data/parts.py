"""Parts: the rows a network trains on and the rows that score it, preprocessed for that split."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpo_service import protocol
from workers.data.dataset import Codes, Dataset, Floats
from workers.data.folds import Rows
from workers.data.preprocessing import Preprocessing


@dataclass(frozen=True)
class Part:
    """One split: inputs (rows, width), targets as stored and (for networks) as scaled."""

    preprocessing: Preprocessing
    train_inputs: Floats
    train_target: Codes | Floats
    train_scaled: Codes | Floats
    valid_inputs: Floats
    valid_target: Codes | Floats


def split(dataset: Dataset, splits: Iterable[tuple[Rows, Rows]]) -> list[Part]:
    """One part for each split of the rows of one data set."""
    return [part(dataset, train, dataset, valid) for train, valid in splits]


def part(dataset: Dataset, train: Rows, scoring: Dataset, valid: Rows) -> Part:
    """Fit on the training rows of `dataset`, score on rows of `scoring` (same schema)."""
    fitted = Preprocessing.fit(dataset, train)
    return Part(
        preprocessing=fitted,
        train_inputs=fitted.inputs(dataset, train),
        train_target=dataset.target[train],
        train_scaled=fitted.scaled_target(dataset, train),
        valid_inputs=fitted.inputs(scoring, valid),
        valid_target=scoring.target[valid],
    )


@dataclass(frozen=True)
class Table:
    """The parts as tensors on one device, shared by all lanes that train on them.

    Training rows of all parts stand below each other (`offsets`, `counts`: where each part
    starts, and its rows), so that a batch of every lane is one gather. Validation rows are padded
    to the largest part; `valid_mask` is 1 for real rows.

    train_inputs (all rows, width)     train_target (all rows,) codes or (all rows, targets) scaled
    valid_inputs (parts, rows, width)  valid_target (parts, rows[, targets]) as stored
    valid_mask   (parts, rows)         target_mean, target_scale (parts, 1, targets)
    """

    task: protocol.Task
    outputs: int
    offsets: list[int]
    counts: list[int]
    train_inputs: Tensor
    train_target: Tensor
    valid_inputs: Tensor
    valid_target: Tensor
    valid_mask: Tensor
    target_mean: Tensor
    target_scale: Tensor

    @classmethod
    def of(
        cls,
        schema: protocol.DatasetSchema,
        parts: list[Part],
        dtype: torch.dtype,
        device: torch.device,
    ) -> Table:
        counts = [len(part.train_inputs) for part in parts]
        rows = max(len(part.valid_inputs) for part in parts)

        def tensor(array: NDArray[np.generic]) -> Tensor:
            # Scores are measured in float64 whatever the network computes in.
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        def padded(arrays: list[NDArray[np.generic]]) -> Tensor:
            return tensor(np.stack([_pad(array, rows) for array in arrays]))

        return cls(
            task=schema.task,
            outputs=len(schema.classes) or len(schema.target),
            offsets=[sum(counts[:at]) for at in range(len(counts))],
            counts=counts,
            train_inputs=tensor(np.concatenate([part.train_inputs for part in parts])).to(dtype),
            train_target=_learned(
                tensor(np.concatenate([part.train_scaled for part in parts])), dtype
            ),
            valid_inputs=padded([part.valid_inputs for part in parts]).to(dtype),
            valid_target=padded([part.valid_target for part in parts]),
            valid_mask=padded([np.ones(len(part.valid_inputs)) for part in parts]),
            target_mean=tensor(np.stack([part.preprocessing.target_mean[None] for part in parts])),
            target_scale=tensor(
                np.stack([part.preprocessing.target_scale[None] for part in parts])
            ),
        )

    @property
    def width(self) -> int:
        """Inputs of a row."""
        return self.train_inputs.shape[1]


def _learned(target: Tensor, dtype: torch.dtype) -> Tensor:
    return target.to(dtype) if target.is_floating_point() else target


def _pad(array: NDArray[np.generic], rows: int) -> NDArray[np.generic]:
    return np.pad(array, [(0, rows - len(array)), *[(0, 0)] * (array.ndim - 1)])
