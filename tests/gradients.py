"""Whether a network's gradient is the derivative of its loss, whatever the family."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests import training
from workers.data.parts import Table
from workers.models.base import Network

# Between rounding, which grows for shorter steps, and curvature, which grows for longer ones.
FAR = 1e-5
ROWS, PADDING = 10, 2


def slopes(rows: Table, family: str, params: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """By array, along a direction of its own: the slope that the gradient gives, and the loss's
    difference quotient.
    """
    one = networks(rows, family, params, 1)
    losses(one, rows)
    start, gradient = one.unpack(one.parameters, 0), one.unpack(one.gradient, 0)
    directions = {name: direction(found) for name, found in gradient.items()}
    # All lanes draw the same. Each stands on one side of the start, along one array.
    moved = networks(rows, family, params, 2 * len(start))
    for lane, (name, sign) in enumerate(itertools.product(start, (1, -1))):
        there = start | {name: start[name] + sign * FAR * directions[name]}
        moved.pack(there, moved.parameters, lane)
    after, before = losses(moved, rows).view(-1, 2).T
    quotients = ((after - before) / (2 * FAR)).tolist()
    told = [float((gradient[name] * directions[name]).sum()) for name in start]
    return dict(zip(start, zip(told, quotients, strict=True), strict=True))


def networks(rows: Table, family: str, params: dict[str, Any], count: int) -> Network:
    """So many equal lanes."""
    params = params | {"batch_size": ROWS + PADDING}
    return training.lanes(rows, family, [(params, 0, 1)] * count).network


def losses(network: Network, rows: Table) -> torch.Tensor:
    """Of each lane, on the same rows, of which the last are padding; sets the gradient."""
    lanes, some = len(network.parameters), slice(ROWS + PADDING)
    inputs, target = (
        each[some].expand(lanes, *each[some].shape).contiguous()
        for each in (rows.train_inputs, rows.train_target)
    )
    weights = inputs.new_full((lanes, ROWS + PADDING), 1 / ROWS)
    weights[:, ROWS:] = 0
    network.start_epoch([1] * lanes)
    return (network.learn(0, inputs, target, weights) * weights).sum(1)


def direction(gradient: NDArray[np.float64]) -> NDArray[np.float64]:
    """Uphill, and to some side, so that numbers whose gradient is wrongly 0 count too."""
    side = np.random.default_rng(0).standard_normal(gradient.shape)
    uphill: NDArray[np.float64] = gradient / max(float(np.linalg.norm(gradient)), 1e-12)
    return uphill + side / np.linalg.norm(side)
