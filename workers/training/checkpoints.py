"""The state of a trial between two epochs as bytes, so that another process can go on from it.

A safetensors file: the arrays of each lane under `<lane>.<name>`, and as JSON in its metadata what
is not an array: draws, steps, the curve so far.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from workers.training.curve import Point
from workers.training.lanes import State

SAID = "said"


def pack(
    points: Sequence[Point],
    states: Sequence[State],
    said: NDArray[np.float32] | None = None,
) -> bytes:
    """The bytes of a trial whose last finished epoch is that of the last point.

    `said`: the predictions of the epoch that is the best so far, where they are kept.
    """
    arrays = {
        f"{lane}.{name}": np.ascontiguousarray(array)
        for lane, state in enumerate(states)
        for name, array in state.arrays.items()
    }
    if said is not None:
        arrays[SAID] = said
    described = {
        "points": [dataclasses.asdict(point) for point in points],
        "lanes": [{"steps": state.steps, "rng": state.rng} for state in states],
    }
    return save(arrays, metadata={"checkpoint": json.dumps(described)})


def unpack(path: Path) -> tuple[list[Point], list[State], NDArray[np.float32] | None]:
    """What `pack` was given; raises `OSError`, `SafetensorError`, `ValueError` or `KeyError` where
    the file is not one of its own.
    """
    with safe_open(path, framework="numpy") as file:
        described = json.loads((file.metadata() or {})["checkpoint"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    states = [
        State(_of(lane, arrays), found["steps"], found["rng"])
        for lane, found in enumerate(described["lanes"])
    ]
    return [Point(**point) for point in described["points"]], states, arrays.get(SAID)


def _of(lane: int, arrays: dict[str, Any]) -> dict[str, Any]:
    start = f"{lane}."
    return {n.removeprefix(start): array for n, array in arrays.items() if n.startswith(start)}
