"""Parts: the rows a network trains on and the rows that score it, preprocessed for that split."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpo_service import protocol
from workers.data.dataset import Codes, Dataset, Floats
from workers.data.folds import Rows, inner_split
from workers.data.layouts import SPECIAL, Block, Layout
from workers.data.preprocessing import Preprocessing

Scored = Literal["valid", "inner", "shown"]

# Of each part's training rows, to be scored like validation rows: what it costs beside training is
# little, and the error of a score of so many rows is too.
SHOWN_ROWS = 400


@dataclass(frozen=True)
class Part:
    """One split: inputs (rows, width), targets as stored and (for networks) as scaled.

    `inner_*`: rows taken from the training rows to stop early by, targets as stored; None where
    the training rows are whole. `*_weight` (rows,): what rows count, those of training 1 in the
    mean; None where all count alike.
    """

    preprocessing: Preprocessing
    train_inputs: Floats
    train_target: Codes | Floats
    train_scaled: Codes | Floats
    valid_inputs: Floats
    valid_target: Codes | Floats
    inner_inputs: Floats | None = None
    inner_target: Codes | Floats | None = None
    train_weight: Floats | None = None
    valid_weight: Floats | None = None
    inner_weight: Floats | None = None

    def some_trained(self, most: int) -> tuple[Floats, Codes | Floats, Floats | None]:
        """Inputs, targets as stored and weights of up to so many training rows, always the same."""
        rows = np.random.default_rng(0).permutation(len(self.train_inputs))[:most]
        weights = None if self.train_weight is None else self.train_weight[rows]
        return self.train_inputs[rows], self.train_target[rows], weights


def split(
    dataset: Dataset,
    splits: Iterable[tuple[Rows, Rows]],
    layout: Layout = "columns",
    inner: bool = False,
    seed: int = 0,
) -> list[Part]:
    """One part for each split of the rows of one data set."""
    return [part(dataset, train, dataset, valid, layout, inner, seed) for train, valid in splits]


def part(
    dataset: Dataset,
    train: Rows,
    scoring: Dataset,
    valid: Rows,
    layout: Layout = "columns",
    inner: bool = False,
    seed: int = 0,
) -> Part:
    """Fit on the training rows of `dataset`, score on rows of `scoring` (same schema).

    `inner`: a share of the training rows leaves them before anything is fitted, drawn by `seed`.
    """
    train, stopping = inner_split(dataset, train, seed) if inner else (train, None)
    fitted = Preprocessing.fit(dataset, train, layout)
    return Part(
        preprocessing=fitted,
        train_inputs=fitted.inputs(dataset, train),
        train_target=dataset.target[train],
        train_scaled=fitted.scaled_target(dataset, train),
        valid_inputs=fitted.inputs(scoring, valid),
        valid_target=scoring.target[valid],
        inner_inputs=None if stopping is None else fitted.inputs(dataset, stopping),
        inner_target=None if stopping is None else dataset.target[stopping],
        train_weight=_relative(_weight(dataset, train)),
        valid_weight=_weight(scoring, valid),
        inner_weight=None if stopping is None else _weight(dataset, stopping),
    )


def _weight(dataset: Dataset, rows: Rows) -> Floats | None:
    return None if dataset.weight is None else dataset.weight[rows]


def _relative(weight: Floats | None) -> Floats | None:
    """With a mean of 1, so that weights leave a learning rate or a penalty what it is."""
    return None if weight is None else weight / weight.mean()


@dataclass(frozen=True)
class Table:
    """The parts as tensors on one device, shared by all lanes that train on them.

    Training rows of all parts stand below each other (`offsets`, `counts`: where each part
    starts, and its rows), so that a batch of every lane is one gather. Rows that score are padded
    to the largest part; a mask is what a row counts, 1 where rows have no weights, and 0 for
    padding. Targets with a class for each step have one
    more dimension, steps, and are -1 where there is none.

    train_inputs (all rows, width)     train_target (all rows,) codes or (all rows, targets) scaled
    valid_inputs (parts, rows, width)  valid_target (parts, rows[, targets]) as stored
    valid_mask   (parts, rows)         target_mean, target_scale (parts, 1, targets)
    train_weight (all rows,), None where all count alike
    inner_*      like valid_*, of the rows to stop early by; None where the parts have none
    shown_*      like valid_*, of some rows that a part trains on, to tell bias from variance

    `dims`: the schema's shape; `symbols`: codes that a structured text may have, with padding and
    unknown, 0 for other kinds; `blocks`: columns of the inputs that are one category one-hot.
    """

    task: protocol.Task
    outputs: int
    offsets: list[int]
    counts: list[int]
    train_inputs: Tensor
    train_target: Tensor
    train_weight: Tensor | None
    valid_inputs: Tensor
    valid_target: Tensor
    valid_mask: Tensor
    target_mean: Tensor
    target_scale: Tensor
    inner_inputs: Tensor | None
    inner_target: Tensor | None
    inner_mask: Tensor | None
    shown_inputs: Tensor
    shown_target: Tensor
    shown_mask: Tensor
    layout: Layout
    kind: protocol.DataKind
    dims: tuple[int, ...]
    symbols: int
    per_step: bool
    blocks: tuple[Block, ...]

    @classmethod
    def of(
        cls,
        schema: protocol.DatasetSchema,
        parts: list[Part],
        dtype: torch.dtype,
        device: torch.device,
    ) -> Table:
        """Stack parts of one layout, all with inner rows or all without."""
        counts = [len(part.train_inputs) for part in parts]
        fitted = [part.preprocessing for part in parts]
        # Scores are measured in float64 whatever the network computes in.
        train_target = _tensor(np.concatenate([part.train_scaled for part in parts]), device)
        scored = _scoring(
            [(p.valid_inputs, p.valid_target, p.valid_weight) for p in parts], dtype, device
        )
        stopping = [
            (part.inner_inputs, part.inner_target, part.inner_weight)
            for part in parts
            if part.inner_inputs is not None and part.inner_target is not None
        ]
        inner = _scoring(stopping, dtype, device) if stopping else (None, None, None)
        shown = _scoring([each.some_trained(SHOWN_ROWS) for each in parts], dtype, device)
        return cls(
            task=schema.task,
            outputs=len(schema.classes) or len(schema.target),
            offsets=[sum(counts[:at]) for at in range(len(counts))],
            counts=counts,
            train_inputs=_tensor(np.concatenate([p.train_inputs for p in parts]), device).to(dtype),
            train_target=_learned(train_target, dtype),
            train_weight=_counted(parts, dtype, device),
            valid_inputs=scored[0],
            valid_target=scored[1],
            valid_mask=scored[2],
            target_mean=_tensor(np.stack([each.target_mean[None] for each in fitted]), device),
            target_scale=_tensor(np.stack([each.target_scale[None] for each in fitted]), device),
            inner_inputs=inner[0],
            inner_target=inner[1],
            inner_mask=inner[2],
            shown_inputs=shown[0],
            shown_target=shown[1],
            shown_mask=shown[2],
            layout=fitted[0].layout,
            kind=schema.kind,
            dims=tuple(schema.shape or ()),
            symbols=len(schema.symbols) + SPECIAL if schema.kind == "symbols" else 0,
            per_step=schema.per_step,
            blocks=fitted[0].blocks,
        )

    def inputs(self, which: Scored) -> Tensor:
        """Inputs of rows that score, of those to stop early by, or of some that train."""
        if which == "inner":
            assert self.inner_inputs is not None, "the parts have no inner rows"
            return self.inner_inputs
        return self.valid_inputs if which == "valid" else self.shown_inputs

    def scored(self, which: Scored) -> tuple[Tensor, Tensor]:
        """Targets and mask of these rows."""
        if which == "valid":
            return self.valid_target, self.valid_mask
        if which == "shown":
            return self.shown_target, self.shown_mask
        assert self.inner_target is not None
        assert self.inner_mask is not None
        return self.inner_target, self.inner_mask

    @property
    def width(self) -> int:
        """Inputs of a row."""
        return self.train_inputs.shape[1]


def flatten_steps(
    prediction: Tensor, target: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Every step as a row of its own, as the metrics want it; steps without a class are masked.

    `prediction` (lanes, rows, steps * classes) or (lanes, rows, steps, classes) probabilities,
    `target` (lanes, rows, steps) codes, `mask` (lanes, rows); gives (lanes, rows * steps, classes),
    (lanes, rows * steps) and (lanes, rows * steps).
    """
    lanes, rows, steps = target.shape
    labelled = (target >= 0) * mask[:, :, None]
    return (
        prediction.reshape(lanes, rows * steps, -1),
        target.clamp_min(0).reshape(lanes, -1),
        labelled.reshape(lanes, -1),
    )


def _counted(parts: list[Part], dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """What the training rows count; None where all count alike."""
    weights = [part.train_weight for part in parts if part.train_weight is not None]
    return _tensor(np.concatenate(weights), device).to(dtype) if weights else None


def _scoring(
    parts: list[tuple[Floats, Codes | Floats, Floats | None]],
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, targets and mask of rows that score, padded to the part with the most."""
    rows = max(len(inputs) for inputs, _, _ in parts)
    inputs = np.stack([_pad(inputs, rows) for inputs, _, _ in parts])
    target = np.stack([_pad(target, rows) for _, target, _ in parts])
    counted = [np.ones(len(target)) if weight is None else weight for _, target, weight in parts]
    mask = np.stack([_pad(each, rows) for each in counted])
    return _tensor(inputs, device).to(dtype), _tensor(target, device), _tensor(mask, device)


def _tensor(array: NDArray[np.generic], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def _learned(target: Tensor, dtype: torch.dtype) -> Tensor:
    return target.to(dtype) if target.is_floating_point() else target


def _pad(array: NDArray[np.generic], rows: int) -> NDArray[np.generic]:
    return np.pad(array, [(0, rows - len(array)), *[(0, 0)] * (array.ndim - 1)])
