"""What the networks of a trial say of the rows that they were not shown, kept for later questions.

From these predictions alone, without another training, it can be told how much of the best value
is luck, whether two settings differ, and what an ensemble would be worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from workers.training.folds import Folds

# Larger predictions are not kept: numbers of one trial, in all repeats.
MOST_NUMBERS = 4_000_000

Predictions = NDArray[np.float32]


def kept(folds: Folds) -> bool:
    """Whether predictions for these rows are kept: one for each row, and not too large."""
    schema = folds.dataset.schema
    if schema.per_step or folds.generating:
        return False
    rows, repeats = folds.dataset.rows, folds.validation.repeats
    return rows * folds.dataset.outputs * repeats <= MOST_NUMBERS


def assemble(folds: Folds, parts: Sequence[NDArray[np.floating]]) -> Predictions:
    """By row: (repeats, rows, outputs), from the predictions of each part, in their order.

    Probabilities, or numbers in the target's units; NaN for rows that no fold scores. A row that
    several folds of a repeat score has the prediction of the last.
    """
    repeats = folds.validation.repeats
    found = np.full((repeats, folds.dataset.rows, folds.dataset.outputs), np.nan, np.float32)
    each = len(parts) // repeats
    for at, (rows, said) in enumerate(zip(folds.scored, parts, strict=True)):
        found[at // each, rows] = said
    return found


def pack(predictions: Predictions) -> bytes:
    """The bytes of the artifact."""
    return save({"prediction": predictions})


def unpack(path: Path) -> Predictions:
    """What `pack` was given."""
    found: Predictions = load_file(path)["prediction"]
    return found
