"""Built-in data as a worker has it, for benchmarks that need no server."""

from __future__ import annotations

import numpy as np
import torch

from hpo_service import protocol
from hpo_service.datasets.builtin import DATASETS
from workers.data.dataset import Dataset
from workers.data.folds import splits
from workers.data.layouts import Layout
from workers.data.parts import Table, split


def read(name: str) -> Dataset:
    """The rows as a worker reads them."""
    found = DATASETS[name].load()
    target = found.target if found.schema.classes else found.target.reshape(found.schema.rows, -1)
    return Dataset(found.schema, found.numeric, found.categorical.astype(np.int64), target)


def table(name: str, folds: int, layout: Layout = "columns") -> Table:
    """The folds of seed 0, each preprocessed inside itself."""
    data = read(name)
    parts = split(data, splits(data, protocol.Validation(folds=folds), 0), layout)
    return Table.of(data.schema, parts, torch.float32, torch.device("cpu"))
