"""A model as a file that `loading` reads: arrays as safetensors, its card as JSON beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from safetensors.numpy import save

from hpo_service import protocol
from workers.data.preprocessing import Preprocessing
from workers.models.base import Arrays


def pack(card: protocol.ModelCard, models: Sequence[Arrays]) -> bytes:
    """The file of one model, or of as many as the card has members; each as `whole` made it."""
    if not card.members:
        (arrays,) = models
    else:
        arrays = _numbered("members", models)
    return packed(arrays, card.metadata())


def packed(arrays: Arrays, metadata: dict[str, str] | None = None) -> bytes:
    """Arrays by name as a file."""
    # safetensors writes the memory as it lies.
    return save({n: np.ascontiguousarray(a) for n, a in arrays.items()}, metadata=metadata)


def whole(fitted: Arrays, preprocessing: Preprocessing) -> Arrays:
    """All arrays of a model: what was fitted, and what was learnt of inputs and targets."""
    return fitted | {f"preprocessing.{n}": a for n, a in preprocessing.arrays().items()}


def named(networks: Sequence[Arrays]) -> Arrays:
    """Of the restarts of an ensemble as those of one model; one network alone has plain names."""
    return networks[0] if len(networks) == 1 else _numbered("networks", networks)


def _numbered(prefix: str, models: Sequence[Arrays]) -> Arrays:
    return {f"{prefix}.{at}.{n}": a for at, arrays in enumerate(models) for n, a in arrays.items()}
