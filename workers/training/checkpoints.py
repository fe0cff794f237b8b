"""The state of a trial between two epochs as bytes, so that another process can go on from it.

A safetensors file: the arrays of each lane under `<lane>.<name>`, and as JSON in its metadata what
is not an array: draws, steps, the curve so far. The best epoch so far has arrays of its own.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from workers.models.base import Arrays
from workers.training.curve import Point
from workers.training.lanes import State

SAID, NETWORKS = "said", "networks"


@dataclass(frozen=True)
class Best:
    """Of a trial's epoch that is the best so far, what is kept: what its networks say of the rows
    that they were not shown, and the networks themselves, one a fold.
    """

    said: NDArray[np.float32] | None = None
    networks: Sequence[Arrays] = ()


def pack(points: Sequence[Point], states: Sequence[State], best: Best) -> bytes:
    """The bytes of a trial whose last finished epoch is that of the last point."""
    arrays = {
        f"{lane}.{name}": np.ascontiguousarray(array)
        for lane, state in enumerate(states)
        for name, array in state.arrays.items()
    }
    if best.said is not None:
        arrays[SAID] = best.said
    for fold, network in enumerate(best.networks):
        arrays |= {f"{NETWORKS}.{fold}.{n}": np.ascontiguousarray(a) for n, a in network.items()}
    described = {
        "points": [dataclasses.asdict(point) for point in points],
        "lanes": [{"steps": state.steps, "rng": state.rng} for state in states],
        "networks": len(best.networks),
    }
    return save(arrays, metadata={"checkpoint": json.dumps(described)})


def unpack(path: Path) -> tuple[list[Point], list[State], Best]:
    """What `pack` was given; raises `OSError`, `SafetensorError`, `ValueError` or `KeyError` where
    the file is not one of its own.
    """
    with safe_open(path, framework="numpy") as file:
        described = json.loads((file.metadata() or {})["checkpoint"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    states = [
        State(_of(f"{lane}", arrays), found["steps"], found["rng"])
        for lane, found in enumerate(described["lanes"])
    ]
    networks = [_of(f"{NETWORKS}.{fold}", arrays) for fold in range(described.get("networks", 0))]
    best = Best(arrays.get(SAID), networks)
    return [Point(**point) for point in described["points"]], states, best


def _of(name: str, arrays: Arrays) -> Arrays:
    start = f"{name}."
    return {n.removeprefix(start): array for n, array in arrays.items() if n.startswith(start)}
